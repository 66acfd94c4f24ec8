//! Runs in processes of their own, none of which goes on without this one, unless it is killed.

use crate::interrupt;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

/// A run in a process of its own. Dropped before its end, as where an error ends what it was started for, it is asked to
/// stop, and waited for.
#[derive(Debug)]
pub struct Process(Arc<Mutex<Child>>);

/// Those under way.
static ALL: Mutex<Vec<Weak<Mutex<Child>>>> = Mutex::new(Vec::new());

/// Between two looks at whether a run has ended.
pub const PAUSE: Duration = Duration::from_millis(30);

impl Process {
    /// Starts it.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        interrupt::before_exit(kill_all);
        let mut all = lock(&ALL);
        let child = Arc::new(Mutex::new(command.spawn()?));
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&child));
        Ok(Process(child))
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        lock(&self.0).try_wait()
    }

    /// Waits for its end; passes on a request to stop.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        let mut told = false;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if interrupt::asked() && !std::mem::replace(&mut told, true) {
                self.ask_to_stop();
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Asks it to save itself and stop, where the system has a way to; stops it otherwise, which costs it what it has learned
    /// since its last checkpoint.
    pub fn ask_to_stop(&self) {
        let mut child = lock(&self.0);
        #[cfg(unix)]
        let asked = {
            let kill = format!("kill -TERM {}", child.id());
            Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success())
        };
        #[cfg(not(unix))]
        let asked = false;
        if !asked {
            let _ = child.kill();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.ended(), Ok(None)) {
            self.ask_to_stop();
        }
        while matches!(self.ended(), Ok(None)) {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Ends all that are under way, at once.
fn kill_all() {
    let all = lock(&ALL);
    for child in all.iter().filter_map(Weak::upgrade) {
        let mut child = lock(&child);
        let _ = child.kill().and_then(|()| child.wait());
    }
    // Never unlocked: no other is started before this process ends.
    std::mem::forget(all);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|error| error.into_inner())
}
