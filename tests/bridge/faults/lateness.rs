//! How late this machine is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How late this machine wakes a program that asked to be woken: a busy one can be late by as much as the times that
/// the test forgives.
pub(super) struct Lateness {
    worst: Arc<Mutex<Duration>>,
    stop: Arc<AtomicBool>,
}

impl Lateness {
    pub(super) fn measure() -> Self {
        const NAP: Duration = Duration::from_millis(20);
        let this = Self {
            worst: Arc::default(),
            stop: Arc::default(),
        };
        let (worst, stop) = (Arc::clone(&this.worst), Arc::clone(&this.stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                std::thread::sleep(NAP);
                let late = start.elapsed().saturating_sub(NAP);
                let mut worst = worst.lock().expect("not poisoned");
                *worst = late.max(*worst);
            }
        });
        this
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
