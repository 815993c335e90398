"""Studies of recurrent cells: what the literature claims, tried out."""
