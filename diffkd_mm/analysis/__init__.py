"""What a distillation costs, and how far its features are from the teacher's: measured, printed."""
