//! The code against its definition, against ISA-L, and against every loss it promises to survive.

mod erasures;
mod input;
mod isal;
mod kernels;
mod properties;
mod reference;
mod second_implementation;
