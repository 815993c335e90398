"""Functions whose results torch.compile keeps."""

import torch

from gatewise.backends.constant import constant


def test_the_mark_is_that_of_torch() -> None:
    def ours() -> None: ...

    def theirs() -> None: ...

    constant(ours)
    torch.compiler.assume_constant_result(theirs)
    assert vars(ours) == vars(theirs) != {}
