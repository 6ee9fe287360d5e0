"""unCLIP, its solvers, the SDXL refiner and the captioner."""
