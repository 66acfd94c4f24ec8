//! The terminal: a dashboard is drawn when something is new or the window changes, and keys are heard.

use super::draw::draw;
use super::state::{Dashboard, Heading, Mood};
use crate::interrupt;
use crate::run_dir::Metrics;
use crate::status::{Controls, Status};
use crate::watched::{State, Watched};
use anyhow::{Context, Result};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A dashboard on the terminal, drawn by a thread of its own: training never waits for a terminal.
#[derive(Debug)]
pub struct Screen {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dashboard: Mutex<Dashboard>,
    changed: AtomicBool,
    closing: AtomicBool,
    controls: Arc<Controls>,
}

/// Whether the terminal was given back because the process is about to end, or some thread panicked: nothing is drawn any more.
static GIVEN_BACK: AtomicBool = AtomicBool::new(false);

/// How long keys are waited for before something else is looked at.
const WAIT: Duration = Duration::from_millis(100);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Pause,
    Checkpoint,
    Stop,
    /// As a second Ctrl-C, at once.
    Interrupt,
}

impl Screen {
    /// Takes the terminal; `None` where it can't be had.
    pub fn open(heading: Heading, controls: Arc<Controls>) -> Option<Self> {
        let terminal = take_terminal().ok()?;
        let shared = Arc::new(Shared {
            dashboard: Mutex::new(Dashboard::of_training(heading)),
            changed: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            controls,
        });
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new().name("dashboard".into()).spawn(move || show(terminal, &for_thread));
        if thread.is_err() {
            ratatui::restore();
        }
        Some(Screen { shared, thread: Some(thread.ok()?) })
    }

    /// Where training is now.
    pub fn status(&self, status: &Status) {
        self.change(|dashboard| dashboard.take_status(status));
    }

    /// One epoch is done.
    pub fn epoch(&self, metrics: &Metrics) {
        self.change(|dashboard| dashboard.take_epoch(metrics));
    }

    /// A sentence for people.
    pub fn message(&self, text: &str) {
        self.change(|dashboard| dashboard.message = text.into());
    }

    fn change(&self, change: impl FnOnce(&mut Dashboard)) {
        change(&mut self.shared.dashboard());
        self.shared.changed.store(true, Ordering::Release);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        // Its thread gives the terminal back, however it ends.
        self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn dashboard(&self) -> MutexGuard<'_, Dashboard> {
        self.dashboard.lock().unwrap_or_else(|error| error.into_inner())
    }

    fn act(&self, action: Action) {
        match action {
            Action::Pause => self.controls.turn(),
            Action::Checkpoint => self.controls.ask_for_checkpoint(),
            // Asked twice, the process would end at once: only Ctrl-C does that.
            Action::Stop if interrupt::asked() => {}
            Action::Stop | Action::Interrupt => interrupt::ask(),
        }
    }
}

/// Takes the terminal, and has it given back whatever ends the process.
fn take_terminal() -> std::io::Result<DefaultTerminal> {
    let terminal = ratatui::try_init()?;
    // Around the hook that `ratatui` sets, which gives the terminal back.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        GIVEN_BACK.store(true, Ordering::SeqCst);
        hook(panic);
    }));
    interrupt::before_exit(|| {
        GIVEN_BACK.store(true, Ordering::SeqCst);
        ratatui::restore();
    });
    Ok(terminal)
}

/// Gives the terminal back when it goes.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        if !GIVEN_BACK.load(Ordering::SeqCst) {
            ratatui::restore();
        }
    }
}

/// Draws and listens until the dashboard is closed, or the terminal is gone: training goes on without it.
fn show(mut terminal: DefaultTerminal, shared: &Shared) {
    let _restore = Restore;
    let mut keys = Keys::default();
    while !shared.closing.load(Ordering::Acquire) && !GIVEN_BACK.load(Ordering::SeqCst) {
        if interrupt::asked() {
            let mut dashboard = shared.dashboard();
            if dashboard.mood != Mood::Stopping {
                dashboard.mood = Mood::Stopping;
                shared.changed.store(true, Ordering::Release);
            }
        }
        if shared.changed.swap(false, Ordering::Acquire) {
            // A copy, so that training does not wait while it is drawn.
            let dashboard = shared.dashboard().clone();
            if terminal.draw(|frame| draw(frame, &dashboard)).is_err() {
                return;
            }
        }
        match keys.next(WAIT) {
            Heard::Key(key) => action(key).into_iter().for_each(|action| shared.act(action)),
            Heard::Resize => shared.changed.store(true, Ordering::Release),
            Heard::Nothing => {}
        }
    }
}

/// Shows a run that trains elsewhere, until the user leaves. Answers how it has ended, if it has.
///
/// # Errors
/// Where the run's files cannot be understood, or the terminal cannot be used.
pub fn watch(run: &Path) -> Result<Option<State>> {
    let mut terminal = take_terminal().context("the terminal cannot be used; take --progress plain")?;
    let _restore = Restore;
    let mut watched = Watched::new(run);
    let mut dashboard = Dashboard::of_watched(run);
    let (mut keys, mut looked) = (Keys::default(), None::<Instant>);
    loop {
        let due = looked.is_none_or(|looked| looked.elapsed() >= Duration::from_millis(500));
        if due {
            watched.look()?;
            dashboard.take_watched(&watched);
            looked = Some(Instant::now());
        }
        terminal.draw(|frame| draw(frame, &dashboard)).context("the terminal cannot be drawn on")?;
        let heard = keys.next(WAIT);
        let leave = matches!(heard, Heard::Key(key) if matches!(action(key), Some(Action::Stop | Action::Interrupt)));
        if leave || interrupt::asked() {
            let over = !matches!(watched.state, State::Absent | State::Training);
            return Ok(over.then_some(watched.state));
        }
    }
}

/// What came from the terminal.
enum Heard {
    Key(KeyEvent),
    Resize,
    Nothing,
}

/// What comes from the terminal.
#[derive(Default)]
struct Keys {
    /// Nothing can be heard: there is no keyboard.
    deaf: bool,
}

impl Keys {
    fn next(&mut self, wait: Duration) -> Heard {
        if self.deaf {
            std::thread::sleep(wait);
            return Heard::Resize; // which is not heard of either: the size is asked for when drawing
        }
        let heard = event::poll(wait).and_then(|some| if some { event::read().map(Some) } else { Ok(None) });
        match heard {
            Ok(Some(Event::Key(key))) => Heard::Key(key),
            Ok(Some(Event::Resize(..))) => Heard::Resize,
            Ok(_) => Heard::Nothing,
            Err(_) => {
                self.deaf = true;
                Heard::Nothing
            }
        }
    }
}

/// What a key asks for.
fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'C') if control => Some(Action::Interrupt),
        KeyCode::Char(_) if control => None,
        KeyCode::Char('p' | 'P' | ' ') => Some(Action::Pause),
        KeyCode::Char('c' | 'C') => Some(Action::Checkpoint),
        KeyCode::Char('q' | 'Q') => Some(Action::Stop),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ask_for_what_the_last_line_says() {
        let press = |code, modifiers| action(KeyEvent::new(code, modifiers));
        let plain = |c| press(KeyCode::Char(c), KeyModifiers::NONE);
        assert_eq!(plain('p'), Some(Action::Pause));
        assert_eq!(plain('c'), Some(Action::Checkpoint));
        assert_eq!(plain('q'), Some(Action::Stop));
        assert_eq!(press(KeyCode::Char('Q'), KeyModifiers::SHIFT), Some(Action::Stop));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Interrupt));
        assert_eq!(press(KeyCode::Char('p'), KeyModifiers::CONTROL), None);
        assert_eq!([plain('x'), press(KeyCode::Esc, KeyModifiers::NONE)], [None, None]);
        let release = KeyEvent { kind: KeyEventKind::Release, ..KeyEvent::from(KeyCode::Char('q')) };
        assert_eq!(action(release), None);
    }

    #[test]
    fn keys_turn_controls() {
        let shared = Shared {
            dashboard: Mutex::default(),
            changed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            controls: Arc::default(),
        };
        let controls = &shared.controls;
        shared.act(Action::Pause);
        assert!(controls.paused());
        shared.act(Action::Pause);
        assert!(!controls.paused());
        shared.act(Action::Checkpoint);
        assert!(controls.take_checkpoint() && !controls.take_checkpoint());
    }

    /// In a terminal of its own, for which this test starts itself again.
    #[cfg(unix)]
    #[test]
    fn a_panic_gives_the_terminal_back_before_it_speaks() {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        use rustix::termios::{LocalModes, tcgetattr};
        use std::io::Read;
        use std::process::Command;
        const INSIDE: &str = "ONWARD_TEST_INSIDE_TERMINAL";
        if std::env::var_os(INSIDE).is_some() {
            let terminal = take_terminal();
            _ = std::thread::spawn(|| panic!("what went wrong")).join();
            drop(terminal);
            return;
        }

        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let end = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let other = || end.try_clone().unwrap();
        let before = tcgetattr(&end).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "dashboard::screen::tests::a_panic_gives_the_terminal_back_before_it_speaks"]);
        command.arg("--nocapture").env(INSIDE, "1").stdin(other()).stdout(other()).stderr(other());
        let mut child = command.spawn().unwrap();
        drop(command); // it holds the terminal's end, too
        let shown = std::thread::spawn({
            let mut terminal = std::fs::File::from(terminal);
            move || {
                let (mut shown, mut some) = (Vec::new(), [0; 1 << 12]);
                // An error where nobody holds the other end any more.
                while let Ok(n @ 1..) = terminal.read(&mut some) {
                    shown.extend_from_slice(&some[..n]);
                }
                String::from_utf8_lossy(&shown).into_owned()
            }
        });
        assert!(child.wait().unwrap().success());
        let after = tcgetattr(&end).unwrap();
        drop(end);
        let shown = shown.join().unwrap();
        let place = |what: &str| shown.find(what).unwrap_or_else(|| panic!("{what:?} in {shown:?}"));
        // The screen of its own is entered, left, and then there are words.
        let places = [place("\x1b[?1049h"), place("\x1b[?1049l"), place("what went wrong")];
        assert!(places.is_sorted(), "{shown:?}");
        let modes = LocalModes::ICANON | LocalModes::ECHO;
        assert_eq!((before.local_modes & modes, after.local_modes & modes), (modes, modes));
    }
}
