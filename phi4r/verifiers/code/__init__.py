"""Programs in responses: the sandbox that runs them and the verifiers that judge what they compute."""
