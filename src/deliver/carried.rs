//! The events that a stream carried, and which of them its browser has read.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::event::Event;
use crate::model::returned::{LastEventId, Mark};

/// An event that is not acknowledged, and how often it was written to a stream.
#[derive(Debug, Clone)]
pub(super) struct Unread {
    pub(super) event: Arc<Event>,
    pub(super) writes: u8,
}

/// The events of a stream that may not have been read, oldest first, and the ids by which its browser can report how far it has
/// read.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) events: VecDeque<Unread>,
    begin: Mark,
    pub(super) end: Option<Mark>,
}

/// The events that a browser has read according to an id.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) read: Vec<Unread>,
    /// The stream that it has left, if that is certain: it will not read the rest of it.
    pub(super) left: Option<usize>,
}

impl Carried {
    pub(super) fn new(begin: Mark) -> Self {
        Self {
            events: VecDeque::new(),
            begin,
            end: None,
        }
    }

    /// The size in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.events
            .iter()
            .map(|unread| unread.event.bytes.len())
            .sum()
    }

    /// The events read by a browser that has read up to `named`; `None` if this stream did not carry that.
    fn read_by(&self, named: LastEventId) -> Option<impl Iterator<Item = &Unread>> {
        let read = match named {
            LastEventId::Mark(mark) if mark == self.begin => 0,
            LastEventId::Mark(mark) if Some(mark) == self.end => self.events.len(),
            LastEventId::Mark(_) => return None,
            LastEventId::Row(id) => {
                let is_it = |unread: &Unread| unread.event.named() == Some(id);
                self.events.iter().rposition(is_it)? + 1
            }
        };
        Some(self.events.iter().take(read))
    }
}

/// The events that a browser has read according to the id that it sends; `None` if no stream carried that.
///
/// An event that was not acknowledged in time is also written to another tab's stream, and the request may be from either tab.
/// Events that only one of their streams carried may be read by a tab that returns later, or never: they are decided later.
pub(super) fn read_by<'a>(
    streams: impl Iterator<Item = &'a Carried>,
    named: LastEventId,
) -> Option<Named> {
    let mut candidates =
        (streams.enumerate()).filter_map(|(index, carried)| Some((index, carried.read_by(named)?)));
    let (index, read) = candidates.next()?;
    let mut read: Vec<_> = read.cloned().collect();
    let mut left = Some(index);
    for (_, also) in candidates {
        left = None;
        let also: Vec<_> = also.map(|unread| &unread.event).collect();
        read.retain(|unread| also.iter().any(|event| Arc::ptr_eq(event, &unread.event)));
    }
    Some(Named { read, left })
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
                (rows(&named).as_slice(), named.left),
                (read, Some(left)),
                "{name:?}"
            );
        }
        for name in [LastEventId::Row(HistoryId(4)), LastEventId::Mark(Mark(7))] {
            assert!(read_by(streams.iter(), name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn of_two_streams_that_carried_it_only_what_both_did_is_certain() {
        let [one, two, three] = events([1, 2, 3]);
        // Event 2 was not acknowledged in time on the first stream, so it was written to the second, between new ones.
        for streams in [
            [carried(8, &[&one, &two]), carried(9, &[&two, &three])],
            [carried(8, &[&two]), carried(9, &[&one, &two, &three])],
        ] {
            let named = read_by(streams.iter(), LastEventId::Row(HistoryId(2)));
            let named = named.expect("it was carried");
            assert_eq!((rows(&named), named.left), (vec![2], None));
        }
    }
}
