"""How good the policy is, on questions it was not trained on."""
