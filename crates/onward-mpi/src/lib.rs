//! Pipelines over many machines: blocks of layers on the ranks of an MPI job.
//!
//! A job is one program that `mpirun` or `srun` starts many times. Each process joins it (`Job::join`) and is a rank. Rank 0
//! has the data and the trainer, hosts the lowest block, and trains along `Job::line`; the others `Job::serve` until rank 0
//! leaves the job. Blocks go to their ranks at the beginning of each stretch between two looks of the observers, and come back
//! at its end, so that whoever looks, and whatever is saved, is as on one machine.
//!
//! With replicas (`Job::divide`), each block is on several ranks next to each other: packets are cut into shares, which go up
//! side by side, and each layer's gradient is summed over the replicas while other layers work.
//!
//! MPI carries everything; nothing waits for a message that is on its way: each rank computes on a thread of its own, while
//! its first thread receives the next packet and sends the last.
//!
//! Without the feature `mpi` this crate is empty, so that what depends on it builds where there is no MPI library.

#[cfg(feature = "mpi")]
mod job;
#[cfg(feature = "mpi")]
mod line;
#[cfg(feature = "mpi")]
mod post;
#[cfg(feature = "mpi")]
mod serve;
#[cfg(feature = "mpi")]
mod sums;
#[cfg(feature = "mpi")]
mod worker;

#[cfg(feature = "mpi")]
pub use job::Job;
#[cfg(feature = "mpi")]
pub use line::Ranks;
