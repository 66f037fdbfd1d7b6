"""Networks: image B C H W in, logits B K H W of the same size out."""
