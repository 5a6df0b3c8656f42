"""Training on the GPUs of a service that speaks the Tinker protocol, through the `tinker` SDK."""
