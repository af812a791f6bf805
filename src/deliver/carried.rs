//! What a stream carried, and what its browser has read of it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::event::Event;
use crate::model::returned::{LastEventId, Mark};

/// An event on its way, and how often it was written to a stream.
#[derive(Debug, Clone)]
pub(super) struct Unread {
    pub(super) event: Arc<Event>,
    pub(super) writes: u8,
}

/// What a stream carried that may not have been read, oldest first, and by which names its browser can say how far it has
/// read.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) events: VecDeque<Unread>,
    begin: Mark,
    pub(super) end: Option<Mark>,
}

/// What a browser has read that names something of a stream.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) read: Vec<Unread>,
    /// Which stream it has left.
    pub(super) index: usize,
    /// Whether no other stream carried what it names: it will never read what else this one carried.
    pub(super) certain: bool,
}

impl Carried {
    pub(super) fn new(begin: Mark) -> Self {
        Self {
            events: VecDeque::new(),
            begin,
            end: None,
        }
    }

    /// How much it is, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.events
            .iter()
            .map(|unread| unread.event.bytes.len())
            .sum()
    }

    /// How many events were read by who has read up to `named`; `None` if that is not of this stream.
    fn read_by(&self, named: LastEventId) -> Option<usize> {
        match named {
            LastEventId::Mark(mark) if mark == self.begin => Some(0),
            LastEventId::Mark(mark) if Some(mark) == self.end => Some(self.events.len()),
            LastEventId::Mark(_) => None,
            LastEventId::Row(id) => {
                let is_it = |unread: &Unread| unread.event.named() == Some(id);
                Some(self.events.iter().rposition(is_it)? + 1)
            }
        }
    }
}

/// What a browser has read that names how far it has, of `streams`, oldest first; `None` if none of them has carried that.
///
/// Several have if an event was not read in time and written again: then either of two tabs may be the one that is back, or the
/// browser has left two streams without having read one of them. It is taken to have read all of the stream that it comes
/// from, and to come from the newest of which that is true. What else the others carried is for time to tell.
pub(super) fn read_by<'a>(
    streams: impl Iterator<Item = &'a Carried>,
    named: LastEventId,
) -> Option<Named> {
    let candidates = (streams.enumerate()).filter_map(|(index, carried)| {
        let read = carried.read_by(named)?;
        Some((read == carried.events.len(), index, carried, read))
    });
    let candidates: Vec<_> = candidates.collect();
    let newest = candidates
        .iter()
        .max_by_key(|(all, index, ..)| (*all, *index));
    newest.map(|(_, index, carried, read)| Named {
        read: carried.events.iter().take(*read).cloned().collect(),
        index: *index,
        certain: candidates.len() == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Content, Rendered};
    use crate::model::ids::{HistoryId, IncidentId};

    /// Events of these rows.
    fn events<const N: usize>(rows: [i64; N]) -> [Arc<Event>; N] {
        let rendered = Rendered::new(&Content {
            time_ms: 0,
            incident_id: IncidentId(1),
            severity: "crit",
            title: "title",
            message: None,
        });
        rows.map(|row| Arc::new(rendered.event(vec![HistoryId(row)], 0)))
    }

    fn carried(mark: u64, events: &[&Arc<Event>]) -> Carried {
        let mut carried = Carried::new(Mark(mark));
        carried.events.extend(events.iter().map(|event| Unread {
            event: Arc::clone(event),
            writes: 1,
        }));
        carried
    }

    fn rows(named: &Named) -> Vec<i64> {
        let named = named.read.iter().filter_map(|unread| unread.event.named());
        named.map(|id| id.0).collect()
    }

    #[test]
    fn an_id_proves_that_everything_before_it_on_the_stream_was_read() {
        let [one, two, three] = events([1, 2, 3]);
        let streams = [carried(8, &[&one, &two, &three]), carried(9, &[])];
        for (name, read, left) in [
            (LastEventId::Row(HistoryId(1)), &[1][..], 0),
            (LastEventId::Row(HistoryId(2)), &[1, 2], 0),
            (LastEventId::Mark(Mark(8)), &[], 0),
            (LastEventId::Mark(Mark(9)), &[], 1),
        ] {
            let named = read_by(streams.iter(), name).expect("it was carried");
            assert_eq!(
                (rows(&named).as_slice(), named.index),
                (read, left),
                "{name:?}"
            );
            assert!(named.certain, "{name:?}");
        }
        for name in [LastEventId::Row(HistoryId(4)), LastEventId::Mark(Mark(7))] {
            assert!(read_by(streams.iter(), name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn of_two_streams_that_carried_it_the_newest_that_it_is_the_last_of_is_meant() {
        let [one, two, three] = events([1, 2, 3]);
        // Two was not read in time from the first, so it was written to the second as well.
        for (streams, read, left) in [
            ([vec![&one, &two], vec![&two, &three]], &[1, 2][..], 0),
            ([vec![&two], vec![&two, &three]], &[2], 0),
            ([vec![&two, &three], vec![&one, &two]], &[1, 2], 1),
            ([vec![&one, &two], vec![&three, &two]], &[3, 2], 1),
            ([vec![&two, &one], vec![&two, &three]], &[2], 1),
        ] {
            let streams = streams.map(|events| carried(8, &events));
            let named = read_by(streams.iter(), LastEventId::Row(HistoryId(2)));
            let named = named.expect("it was carried");
            assert_eq!(
                (rows(&named).as_slice(), named.index),
                (read, left),
                "{streams:?}"
            );
            assert!(!named.certain);
        }
    }
}
