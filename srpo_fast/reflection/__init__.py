"""Stage 1: the policy answers, a teacher reflects with the ground truth in hand, the policy learns the form."""
