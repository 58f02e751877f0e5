"""What a distillation costs: time, memory, parameters and multiply-adds, measured and printed."""
