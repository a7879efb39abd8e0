"""What the services share: context of a call, environment, events, counters, errors, binding and lifecycle."""
