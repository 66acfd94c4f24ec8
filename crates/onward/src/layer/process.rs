//! A black box that is a program: it is started and watched here, gets rows on its standard input, and answers on its standard
//! output.
//!
//! Binary frames: `rows` and `width` as little-endian `u32`, then `rows × width` little-endian `f32`, row by row; the answer in
//! the same form, as many rows, of the width that the settings say. Lines: one row a line, numbers with spaces between; the
//! answer is as many lines.

use crate::settings::{Frames, ProcessSettings};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much of what the program says on its standard error is kept.
const SAID: usize = 4_000;

/// A program between two layers.
#[derive(Debug)]
pub struct Process {
    settings: ProcessSettings,
    running: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Idle,
    Running(Running),
    Failed(String),
}

#[derive(Debug)]
struct Running {
    child: Child,
    to: Option<ChildStdin>,
    answers: Receiver<Result<Vec<f32>, String>>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    /// A program that is started when it is first needed.
    pub fn new(settings: ProcessSettings) -> Self {
        Process { settings, running: Mutex::new(State::Idle) }
    }

    /// `O`.
    pub fn outputs(&self) -> usize {
        self.settings.outputs
    }

    /// What went wrong, if something did: from then on all answers are zeros.
    pub fn fault(&self) -> Option<String> {
        match &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Failed(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Whether it may be started.
    pub fn allow(&mut self, allowed: bool) {
        let refused = format!(
            "the checkpoint wants to run the program `{}`, which is done only where it is allowed: `--allow-programs`",
            self.settings.command.join(" ")
        );
        *self.running.get_mut().unwrap_or_else(PoisonError::into_inner) =
            if allowed { State::Idle } else { State::Failed(refused) };
    }

    /// The program's answer to `x: (R, width)`, into `y: (R, O)`; zeros where it fails.
    pub fn answer(&self, x: &[f32], width: usize, y: &mut [f32]) {
        let mut state = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Idle = *state {
            *state = match self.start() {
                Ok(running) => State::Running(running),
                Err(error) => {
                    State::Failed(format!("`{}` could not be started: {error}", self.settings.command.join(" ")))
                }
            };
        }
        y.fill(0.0);
        let State::Running(running) = &mut *state else { return };
        let failed = match self.ask(running, x, width, y.len()) {
            Ok(answer) => return y.copy_from_slice(&answer),
            Err(why) => {
                // What it said last may still be on its way.
                let _ = running.child.kill();
                let _ = running.child.wait();
                std::thread::sleep(Duration::from_millis(50));
                let said = running.said.lock().unwrap_or_else(PoisonError::into_inner);
                let said = String::from_utf8_lossy(&said).trim().to_owned();
                let said = if said.is_empty() { String::new() } else { format!("; it said:\n{said}") };
                format!("`{}` {why}{said}", self.settings.command.join(" "))
            }
        };
        *state = State::Failed(failed);
    }

    fn start(&self) -> std::io::Result<Running> {
        let (program, arguments) = self.settings.command.split_first().expect("checked: a command has a program");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (send, answers) = channel();
        let (from, mut errors) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (frames, outputs) = (self.settings.frames, self.settings.outputs);
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            loop {
                let answer = match frames {
                    Frames::Binary => read_binary(&mut from, outputs),
                    Frames::Lines => read_line(&mut from, outputs),
                };
                let failed = answer.is_err();
                if send.send(answer).is_err() || failed {
                    return;
                }
            }
        });
        let said = Arc::new(Mutex::new(Vec::new()));
        let keep = said.clone();
        std::thread::spawn(move || {
            let mut part = [0; 1024];
            while let Ok(n @ 1..) = errors.read(&mut part) {
                let mut said = keep.lock().unwrap_or_else(PoisonError::into_inner);
                said.extend_from_slice(&part[..n]);
                let from = said.len().saturating_sub(SAID);
                said.drain(..from);
            }
        });
        Ok(Running { to: child.stdin.take(), child, answers, said })
    }

    /// Sends the rows from a thread of its own, so that a program that answers before it has read everything does not stand
    /// still together with us.
    fn ask(&self, running: &mut Running, x: &[f32], width: usize, expected: usize) -> Result<Vec<f32>, String> {
        let rows = x.len() / width;
        let message = match self.settings.frames {
            Frames::Binary => {
                let head = [rows as u32, width as u32].map(u32::to_le_bytes).concat();
                [head, x.iter().flat_map(|x| x.to_le_bytes()).collect()].concat()
            }
            Frames::Lines => x
                .chunks_exact(width)
                .map(|row| row.iter().map(f32::to_string).collect::<Vec<_>>().join(" ") + "\n")
                .collect::<String>()
                .into_bytes(),
        };
        let mut to = running.to.take().ok_or("is no longer listening")?;
        let (done, sent) = channel();
        std::thread::spawn(move || _ = done.send(to.write_all(&message).and_then(|()| to.flush()).map(|()| to)));
        let deadline = Instant::now() + Duration::from_secs_f64(self.settings.timeout);
        let mut answer = Vec::with_capacity(expected);
        while answer.len() < expected {
            let left = deadline.saturating_duration_since(Instant::now());
            match running.answers.recv_timeout(left) {
                Ok(Ok(part)) => answer.extend(part),
                Ok(Err(why)) => return Err(why),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("did not answer within {} seconds", self.settings.timeout));
                }
                Err(RecvTimeoutError::Disconnected) => return Err("has ended".into()),
            }
        }
        if answer.len() != expected {
            let outputs = self.settings.outputs;
            return Err(format!("answered {} rows, expected {}", answer.len() / outputs, expected / outputs));
        }
        match sent.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(to)) => running.to = Some(to),
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!(
                    "answered, but did not read all it was sent within {} seconds",
                    self.settings.timeout
                ));
            }
            _ => return Err("stopped reading".into()),
        }
        Ok(answer)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let State::Running(running) = self.running.get_mut().unwrap_or_else(PoisonError::into_inner) {
            running.to = None; // the end of its input: a well-behaved program ends
            for _ in 0..20 {
                if let Ok(Some(_)) = running.child.try_wait() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

fn read_binary(from: &mut impl Read, outputs: usize) -> Result<Vec<f32>, String> {
    let mut head = [0; 8];
    from.read_exact(&mut head).map_err(|_| "has ended".to_string())?;
    let [rows, width] = [0, 4].map(|at| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes")) as usize);
    if width != outputs || rows > 1 << 20 {
        return Err(format!("answered {rows} rows of {width} numbers, expected rows of {outputs}"));
    }
    // Only as much memory as really arrives.
    let mut bytes = Vec::new();
    let expected = rows * width * 4;
    from.by_ref()
        .take(expected as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("could not be read: {error}"))?;
    if bytes.len() != expected {
        return Err(format!("ended after {} of {expected} bytes of its answer", bytes.len()));
    }
    finite(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn read_line(from: &mut impl BufRead, outputs: usize) -> Result<Vec<f32>, String> {
    let mut line = String::new();
    let most = 64 * (outputs as u64 + 1);
    match from.by_ref().take(most).read_line(&mut line) {
        Ok(0) => return Err("has ended".into()),
        Ok(_) => {}
        Err(error) => return Err(format!("could not be read: {error}")),
    }
    let numbers: Result<Vec<f32>, _> = line.split_whitespace().map(str::parse).collect();
    let shown = || line.trim().chars().take(60).collect::<String>();
    let numbers = numbers.map_err(|_| format!("answered the line `{}`, expected {outputs} numbers", shown()))?;
    if numbers.len() != outputs {
        return Err(format!("answered a line of {} numbers (`{}`), expected {outputs}", numbers.len(), shown()));
    }
    finite(numbers)
}

fn finite(numbers: Vec<f32>) -> Result<Vec<f32>, String> {
    match numbers.iter().find(|x| !x.is_finite()) {
        Some(x) => Err(format!("answered {x}, expected finite numbers")),
        None => Ok(numbers),
    }
}
