//! Questions, answers, and the numbers that they are stored as.

use crate::model::ids::ContactId;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Show the contact's browsers a test notification: who gets it?
    Test { contact_id: ContactId },
    /// Which browsers are with you?
    RollCall,
}

impl Question {
    pub(super) fn encode(self) -> [i64; 1] {
        match self {
            Self::Test { contact_id } => [contact_id.0],
            // No contact has that id.
            Self::RollCall => [0],
        }
    }
}

/// What a bridge answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// A random number that the bridge goes by while it runs.
    pub(crate) bridge: i64,
    /// Browsers with open streams: the contact's, or all.
    pub(crate) browsers: usize,
    /// How many of them got the test notification.
    pub(crate) delivered: usize,
    /// When a look of it last found rows for which no bell had rung, in milliseconds since the epoch of Unix.
    pub(crate) without_bell_at_ms: Option<i64>,
    /// Numbers that stand for browsers; none for a test.
    pub(crate) sample: Vec<i64>,
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<i64> {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let head = [
            self.bridge,
            number(self.browsers),
            number(self.delivered),
            // No row was found before 1970.
            self.without_bell_at_ms.unwrap_or_default(),
            number(self.sample.len()),
        ];
        head.into_iter()
            .chain(self.sample.iter().copied())
            .collect()
    }

    fn decode(values: &[i64]) -> Option<(Self, &[i64])> {
        let ([bridge, browsers, delivered, without_bell_at_ms, length], rest) =
            values.split_first_chunk()?;
        let (sample, rest) = rest.split_at_checked(usize::try_from(*length).ok()?)?;
        let answer = Self {
            bridge: *bridge,
            browsers: usize::try_from(*browsers).ok()?,
            delivered: usize::try_from(*delivered).ok()?,
            without_bell_at_ms: (*without_bell_at_ms != 0).then_some(*without_bell_at_ms),
            sample: sample.to_vec(),
        };
        Some((answer, rest))
    }
}

/// A stored question with its answers; `None` if no bridge or command of ours wrote that.
pub(super) fn decode(values: &[i64]) -> Option<(Question, Vec<Answer>)> {
    let (first, mut rest) = values.split_first()?;
    let question = match *first {
        0 => Question::RollCall,
        contact_id => Question::Test {
            contact_id: ContactId(contact_id),
        },
    };
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let answer;
        (answer, rest) = Answer::decode(rest)?;
        answers.push(answer);
    }
    Some((question, answers))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ask) fn answer(bridge: i64, sample: &[i64]) -> Answer {
        Answer {
            bridge,
            browsers: 3,
            delivered: 2,
            without_bell_at_ms: sample.first().copied(),
            sample: sample.to_vec(),
        }
    }

    #[test]
    fn answers_are_read_back_as_they_were_appended() {
        let answers = vec![
            answer(-5, &[]),
            answer(i64::MAX, &[1, -2, 3]),
            answer(0, &[9]),
        ];
        for question in [
            Question::RollCall,
            Question::Test {
                contact_id: ContactId(7),
            },
        ] {
            let mut stored = question.encode().to_vec();
            for answer in &answers {
                stored.extend(answer.encode());
            }
            assert_eq!(decode(&stored), Some((question, answers.clone())));
            // Cut anywhere but between answers, it is not taken for what it is not.
            for length in 1..stored.len() {
                let whole = [1, 6, 14].contains(&length);
                assert_eq!(decode(&stored[..length]).is_some(), whole, "{length}");
            }
        }
        for wrong in [
            &[][..],
            &[0, 1, -1, 0, 0, 0],
            &[0, 1, 1, 1, 0, i64::MAX],
            &[0, 1, 1, 1, 0, -1],
        ] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }
}
