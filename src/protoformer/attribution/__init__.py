"""What a model's output is due to, token by token: attention rollout, integrated gradients."""
