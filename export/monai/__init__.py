"""Networks that MONAI has trained, adopted: bundles read without MONAI or torch."""
