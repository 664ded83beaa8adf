"""Named presets, shipped in the wheel; read them with `vol3dseg.config.load_config`."""
