//! Measures how late this machine is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// From which lateness on a return may miss its time, on either side.
const UNPUNCTUAL: Duration = Duration::from_millis(10);

/// How late this machine wakes a program: a busy one can be late by as much as the test tolerates.
pub(super) struct Lateness {
    worst: Arc<Mutex<Duration>>,
    /// When it was too late for punctual returns.
    moments: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
}

impl Lateness {
    pub(super) fn measure() -> Self {
        const NAP: Duration = Duration::from_millis(5);
        let this = Self {
            worst: Arc::default(),
            moments: Arc::default(),
            stop: Arc::default(),
        };
        let (worst, stop) = (Arc::clone(&this.worst), Arc::clone(&this.stop));
        let moments = Arc::clone(&this.moments);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                std::thread::sleep(NAP);
                let late = start.elapsed().saturating_sub(NAP);
                let mut worst = worst.lock().expect("not poisoned");
                *worst = late.max(*worst);
                if late > UNPUNCTUAL {
                    moments.lock().expect("not poisoned").push(start);
                }
            }
        });
        this
    }

    /// When it was too late for punctual returns.
    pub(super) fn moments(&self) -> Vec<Instant> {
        self.moments.lock().expect("not poisoned").clone()
    }

    pub(super) fn worst(&self) -> Duration {
        *self.worst.lock().expect("not poisoned")
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
