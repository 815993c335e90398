"""What every task with text needs: sources, tokens, vocabulary, lines, batches by length, a loss without logits."""
