"""What every task with text needs: vocabulary, lines of files, batches by length, the loss that holds no logits."""
