//! The life of the process: how it starts or says why not, how it ends, and what it survives.

mod drain;
mod end;
mod records;
mod scarcity;
mod secrets;
mod start;
mod survive;
