"""From noise to latents: schedules and the pyramid."""
