//! The processes that train one run together, where `mpirun` or `srun` has started the command many times.

use crate::exit::Usage;
use anyhow::Result;
use onward::settings::Order;
use onward::{Dataset, Observer, Recipe, Trainer};
use std::path::Path;

/// This process, and the others if there are any.
#[derive(Debug)]
pub struct Ranks {
    #[cfg(feature = "mpi")]
    job: Option<onward_mpi::Job>,
    /// How many there are.
    count: usize,
    /// How many of them are on this machine.
    here: usize,
    /// How many have the same layers.
    replicas: usize,
}

/// How many processes the launcher has started, by what it tells each of them; `None` where there is no launcher.
fn started() -> Option<usize> {
    let size = |name| std::env::var(name).ok()?.parse::<usize>().ok();
    // Slurm's own plugin for PMIx says which process this is, and leaves their number to MPI.
    let some = || std::env::var_os("PMIX_RANK").map(|_| 1);
    size("OMPI_COMM_WORLD_SIZE").or_else(|| size("PMI_SIZE")).or_else(some)
}

impl Ranks {
    /// This process alone, whoever has started it.
    pub fn alone() -> Self {
        Ranks {
            #[cfg(feature = "mpi")]
            job: None,
            count: 1,
            here: 1,
            replicas: 1,
        }
    }

    /// Joins the others, if there are any; `replicas`: how many are to have the same layers.
    ///
    /// # Errors
    /// [`Usage`] where there are others, but this command cannot speak to them.
    #[cfg(feature = "mpi")]
    pub fn join(replicas: usize) -> Result<Self> {
        if started().is_none() {
            return Ok(Ranks { replicas, ..Self::alone() });
        }
        let mut job = onward_mpi::Job::join()?;
        let (count, here) = (job.ranks(), job.ranks_here());
        // Where they cannot be divided, `check` says so, once for all.
        if replicas > 0 && count.is_multiple_of(replicas) {
            job.divide(replicas)?;
        }
        Ok(Ranks { job: Some(job), count, here, replicas })
    }

    /// Joins the others, if there are any; `replicas`: how many are to have the same layers.
    ///
    /// # Errors
    /// [`Usage`] where there are others, for this command cannot speak to them.
    #[cfg(not(feature = "mpi"))]
    pub fn join(replicas: usize) -> Result<Self> {
        match started() {
            Some(count) if count > 1 => Err(Usage(format!(
                "{count} processes of a command that was built without MPI: build it with \
                 `cargo build --release --features mpi`"
            ))
            .into()),
            _ => Ok(Ranks { replicas, ..Self::alone() }),
        }
    }

    /// Whether another process has the run.
    pub fn follows(&self) -> bool {
        #[cfg(feature = "mpi")]
        return self.job.as_ref().is_some_and(|job| job.rank() > 0);
        #[cfg(not(feature = "mpi"))]
        false
    }

    /// Hosts layers for the process that has the run, until that one is done.
    ///
    /// # Errors
    /// Where that one is another program.
    pub fn serve(&self) -> Result<()> {
        #[cfg(feature = "mpi")]
        if let Some(job) = &self.job {
            job.serve()?;
        }
        Ok(())
    }

    /// How many threads this process computes with, of so many asked for: by default, processes share their machine.
    pub fn threads(&self, asked: usize) -> usize {
        match std::thread::available_parallelism() {
            Ok(cores) if asked == 0 && self.here > 1 => (cores.get() / self.here).max(1),
            _ => asked,
        }
    }

    /// Refuses what several processes cannot train together.
    ///
    /// # Errors
    /// [`Usage`].
    pub fn check(&self, recipe: &Recipe) -> Result<()> {
        let (count, replicas, batch) = (self.count, self.replicas, recipe.training.batch);
        if replicas == 0 || !count.is_multiple_of(replicas) {
            return Err(Usage(format!(
                "--replicas {replicas} of each layer on {count} {}: expected a number that divides that of the processes, \
                 as in `mpirun -n 4 onward train --replicas 2`",
                if count == 1 { "process" } else { "processes" }
            ))
            .into());
        }
        if batch < replicas {
            return Err(Usage(format!(
                "--replicas {replicas}: a batch of {batch} samples has no share for each of them (training.batch)"
            ))
            .into());
        }
        if count > 1 && recipe.training.order != Order::Pipelined {
            return Err(Usage(format!(
                "{count} processes train one network only as a pipeline: --set training.order=pipelined, and \
                 --set negatives.kind=uniform or a --set negatives.delay of about {}",
                2 * count
            ))
            .into());
        }
        Ok(())
    }

    /// As [`Trainer::fit`], by all processes; `run`: its directory.
    ///
    /// # Errors
    /// As [`Trainer::fit`]; also where another process has died.
    #[cfg_attr(not(feature = "mpi"), expect(unused_variables))]
    pub fn fit(&self, run: &Path, trainer: &mut Trainer, data: &Dataset, observer: &mut impl Observer) -> Result<()> {
        #[cfg(feature = "mpi")]
        if let Some(job) = self.job.as_ref().filter(|_| self.count > 1) {
            let asked = trainer.recipe().training.blocks;
            let blocks = if asked == 0 { self.count / self.replicas } else { asked };
            let ending = crate::interrupt::asked;
            let outcome = trainer.fit_along(&mut job.line(blocks, &ending), data, observer);
            return match outcome {
                // No fault of the settings.
                Err(error) if job.is_broken() => Err(anyhow::anyhow!(
                    "{error}. Go on from the last checkpoint with: onward train --resume {}",
                    run.display()
                )),
                outcome => Ok(outcome?),
            };
        }
        Ok(trainer.fit(data, observer)?)
    }
}
