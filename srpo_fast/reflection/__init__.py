"""Stage 1: the policy answers, a stronger teacher reflects with the ground truth in hand, the policy learns the form."""
