//! Articulated bodies against closed forms, conserved quantities and the golden numbers of the original simulator.

mod bodies;
mod golden;
mod gradients;
mod laws;
mod world;
