"""rudder: a prefetch buffer for remote feature rows, steered while training goes on."""
