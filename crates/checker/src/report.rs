//! The checker's report. For every rule it gives the number of facts that were checked and each fact that broke it.
//! It also lists the data that this release cannot read and does not judge.
//!
//! A rule without a fact proves nothing, so the report says "nothing to check" for it instead of passing it silently.
//! [`Report::require`] turns that into a failure where a test depends on the rule.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Side;

macro_rules! rules {
    ($($name:ident = $invariant:literal, $says:literal;)*) => {
        /// A checkable sentence of one of the contract's twelve invariants.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Rule { $(#[doc = $says] $name,)* }

        impl Rule {
            /// Every rule, in the order of the invariants.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number of the contract's invariant that this rule belongs to, 1 to 12.
            pub const fn invariant(self) -> u8 { match self { $(Self::$name => $invariant,)* } }

            /// The rule as a sentence.
            pub const fn says(self) -> &'static str { match self { $(Self::$name => $says,)* } }
        }
    };
}

rules! {
    StockWithinBounds = 1, "at every prefix 0 <= held <= on_hand";
    StockConserved = 1, "received = on_hand + shipped, and held = the sum of the held reservations";
    StockReadAsItStood = 1, "each decision read the stock as it stood at that point of the journal";
    OneOrderPerKey = 2, "at most one order per (principal, key)";
    OneLiveReservation = 2, "at most one live reservation per order";
    AcknowledgedSurvives = 3, "every acknowledged result is in the table and in the journal";
    NotExecutedLeftNothing = 3, "a request answered not-executed left nothing";
    ConfirmedTogether = 4, "a confirmed order has a reservation confirmed before it with the same lines";
    ConfirmedWhenAsked = 4, "a reservation is confirmed only for an order that was confirming";
    RestHoldsNothing = 4, "at rest a cancelled, rejected or expired order holds nothing";
    RestIsSettled = 4, "at rest every order is terminal, or reserved and unexpired";
    LegalTransition = 5, "only legal transitions";
    ContiguousVersions = 5, "versions are contiguous and each entry leaves the state it found";
    TerminalIsFinal = 5, "terminal states have no successor";
    TablesEqualFold = 6, "the tables equal the fold of the journal";
    FeedShowsJournal = 6, "the feed gives every row of the journal";
    CauseResolves = 7, "every cause resolves, across both services, and the correlation id travels";
    OneRootPerRequest = 7, "one root per request";
    ClockFollowsCause = 7, "hybrid timestamps follow causes";
    RepliesEqual = 8, "all final replies to one key are byte-equal";
    KeysSettle = 8, "at rest every claimed key has its final reply";
    NothingStartsLate = 9, "nothing starts after its deadline";
    TimeFallsPerHop = 9, "remaining time falls at each hop";
    AttemptsPerCall = 10, "attempts per call stay within the limit";
    AttemptsPerHop = 10, "retries per hop stay within the budget";
    NoIdleTransaction = 11, "no session is idle in a transaction for more than one second";
    BackToBaseline = 11, "at rest tasks, sockets and memory are back at their baseline";
    DecisionReexecutes = 12, "every decision re-executes to the same result";
    ChainVerifies = 12, "every hash chain verifies";
}

/// A fact that broke a rule, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The service of the journal, table or request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Side>,
    /// The order, reservation or item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Uuid>,
    /// The aggregate's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// The entry's sequence number in the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// The description of the fault, with its numbers.
    pub what: String,
}

impl Violation {
    /// Creates a violation without a place.
    pub fn new(what: impl Into<String>) -> Self {
        Self { service: None, aggregate: None, version: None, seq: None, what: what.into() }
    }

    /// Sets the aggregate.
    #[must_use]
    pub fn of(mut self, service: Side, aggregate: Uuid) -> Self {
        self.service = Some(service);
        self.aggregate = Some(aggregate);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = self.service {
            write!(f, "{service} ")?;
        }
        if let Some(aggregate) = self.aggregate {
            write!(f, "{aggregate} ")?;
        }
        if let Some(version) = self.version {
            write!(f, "v{version} ")?;
        }
        if let Some(seq) = self.seq {
            write!(f, "seq {seq} ")?;
        }
        // Names and states come from the data, which may hold terminal control sequences.
        for char in self.what.chars() {
            match char {
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    write!(f, "{}", char.escape_unicode())?;
                }
                char if char.is_control() => write!(f, "{}", char.escape_unicode())?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

/// The kinds of data that belong to another release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// A journal row whose bytes are not an entry.
    Entry,
    /// An entry of an aggregate kind that this release does not have.
    Kind,
    /// An entry or a row with a status that this release does not have.
    Status,
    /// An entry of a rule that this release does not have.
    Rule,
    /// A table row with a value that this release cannot read.
    Row,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entry => "unreadable entry",
            Self::Kind => "unknown kind",
            Self::Status => "unknown status",
            Self::Rule => "unknown rule",
            Self::Row => "unreadable row",
        })
    }
}

/// An entry or row that is not judged. The facts that depend on it are not judged either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotJudged {
    /// The kind of the unknown part.
    pub unknown: Unknown,
    /// The place of the entry or row, and the unknown value.
    #[serde(flatten)]
    pub place: Violation,
}

impl fmt::Display for NotJudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.unknown, self.place)
    }
}

/// The differences between the hosts' wall clocks. The report states them; they break no rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clocks {
    /// The offsets between causes and effects, the largest for each pair of services.
    pub offsets: Vec<ClockOffset>,
    /// The number of effects whose hybrid time is not after their cause's, because their host's clock was behind.
    /// Earlier releases did not adopt a clock that was more than half a second ahead.
    pub not_adopted: u64,
}

/// An offset between two services' hosts: a cause has a later wall time than its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// The service that wrote the cause.
    pub ahead: Side,
    /// The service that wrote the effect. It is the same service when its replicas' clocks differ or its clock was
    /// set back.
    pub behind: Side,
    /// The largest offset in milliseconds. The true offset is at least as large.
    pub milliseconds: u64,
    /// The number of effects that show an offset.
    pub effects: u64,
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ahead, behind, milliseconds, effects } = self;
        let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
        let behind = if ahead == behind {
            "of its other replicas or of its own later time".to_owned()
        } else {
            format!("of {behind}")
        };
        write!(f, "{ahead} was up to {seconds}.{rest:03} s ahead {behind} ({effects} effects show it)")
    }
}

/// The result of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The number of the rule's invariant.
    pub invariant: u8,
    /// The number of facts that were checked.
    pub checked: u64,
    /// The number of facts that only a history at rest can judge.
    pub deferred: u64,
    /// The number of facts that are not judged because they depend on data that this release cannot read.
    #[serde(default)]
    pub not_judged: u64,
    /// The number of facts that broke the rule.
    pub violated: u64,
    /// The first violations, [`Finding::SHOWN`] at most, so that a broken service cannot fill the memory.
    pub violations: Vec<Violation>,
}

impl Finding {
    /// The number of violations of one rule that are kept with their text.
    pub const SHOWN: usize = 100;
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// True if the history was taken at rest.
    pub at_rest: bool,
    /// The number of journal entries that were read.
    pub entries: u64,
    /// The number of entries and rows that this release cannot read, by kind.
    #[serde(default)]
    pub not_judged: BTreeMap<Unknown, u64>,
    /// The first of those entries and rows, [`Finding::SHOWN`] at most.
    #[serde(default)]
    pub not_judged_shown: Vec<NotJudged>,
    /// Offsets between the hosts' clocks.
    #[serde(default)]
    pub clocks: Clocks,
    /// One finding per rule, in the order of the invariants.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Returns the result of `rule`.
    pub fn finding(&self, rule: Rule) -> &Finding {
        // `findings` is built from `Rule::ALL`, whose order is the order of the discriminants.
        &self.findings[rule as usize]
    }

    /// Returns whether a rule was broken.
    pub fn is_broken(&self) -> bool {
        self.findings.iter().any(|finding| finding.violated > 0)
    }

    /// Returns whether this release could read everything.
    pub fn is_judged(&self) -> bool {
        self.not_judged.is_empty() && self.findings.iter().all(|finding| finding.not_judged == 0)
    }

    /// Returns whether everything was judged and no rule was broken. Rules without a fact count as unbroken; see
    /// [`Report::require`].
    pub fn is_clean(&self) -> bool {
        !self.is_broken() && self.is_judged()
    }

    /// Returns the invariants with at least one checked fact, and the others.
    pub fn invariants(&self) -> (Vec<u8>, Vec<u8>) {
        let met = |number: &u8| self.findings.iter().any(|f| f.invariant == *number && f.checked > 0);
        (1..=12).partition(met)
    }

    /// Lists the rules without a checked fact.
    pub fn nothing_to_check(&self) -> impl Iterator<Item = Rule> + '_ {
        self.findings.iter().filter(|finding| finding.checked == 0).map(|finding| finding.rule)
    }

    /// Lists the rules that were broken.
    pub fn broken(&self) -> impl Iterator<Item = Rule> + '_ {
        self.findings.iter().filter(|finding| finding.violated > 0).map(|finding| finding.rule)
    }

    /// Fails with the whole report when a rule was broken, when data was not judged, when an entry did not adopt its
    /// cause's clock, or when one of `rules` has no checked fact. For histories that this release has written.
    ///
    /// # Errors
    /// The reason and the report.
    pub fn require(&self, rules: &[Rule]) -> Result<(), String> {
        let empty: Vec<_> = rules.iter().filter(|rule| self.finding(**rule).checked == 0).collect();
        if self.is_clean() && empty.is_empty() && self.clocks.not_adopted == 0 {
            Ok(())
        } else if !self.is_broken() && !self.is_judged() {
            Err(format!("this release wrote data that it cannot read\n{self}"))
        } else if !self.is_broken() && self.clocks.not_adopted > 0 {
            Err(format!("a clock was not adopted\n{self}"))
        } else if empty.is_empty() {
            Err(format!("the history breaks the contract\n{self}"))
        } else {
            Err(format!("rules that had to be checked met no fact: {empty:?}\n{self}"))
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = if self.at_rest { "at rest" } else { "not at rest" };
        writeln!(f, "{} journal entries, {rest}", self.entries)?;
        for finding in &self.findings {
            let verdict = match (finding.violated, finding.checked) {
                (0, 0) => "nothing to check".to_owned(),
                (0, checked) => format!("ok, {checked} checked"),
                (violated, checked) => format!("VIOLATED {violated} of {checked}"),
            };
            write!(f, "{:>3}  {:<78} {verdict}", finding.invariant, finding.rule.says())?;
            if finding.deferred > 0 {
                write!(f, ", {} deferred", finding.deferred)?;
            }
            if finding.not_judged > 0 {
                write!(f, ", {} not judged", finding.not_judged)?;
            }
            writeln!(f)?;
            for violation in &finding.violations {
                writeln!(f, "       - {violation}")?;
            }
            if finding.violated > finding.violations.len() as u64 {
                writeln!(f, "       - and {} more", finding.violated - finding.violations.len() as u64)?;
            }
        }
        for not_judged in &self.not_judged_shown {
            writeln!(f, "not judged: {not_judged}")?;
        }
        for offset in &self.clocks.offsets {
            writeln!(f, "clocks: {offset}")?;
        }
        if self.clocks.not_adopted > 0 {
            writeln!(f, "clocks: {} effects did not adopt their cause's", self.clocks.not_adopted)?;
        }
        Ok(())
    }
}

/// A report in progress.
#[derive(Debug)]
pub(crate) struct Tally {
    findings: Vec<Finding>,
    not_judged: BTreeMap<Unknown, u64>,
    not_judged_shown: Vec<NotJudged>,
    pub(crate) clocks: Clocks,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let findings = Rule::ALL
            .iter()
            .map(|rule| Finding {
                rule: *rule,
                invariant: rule.invariant(),
                checked: 0,
                deferred: 0,
                not_judged: 0,
                violated: 0,
                violations: Vec::new(),
            })
            .collect();
        Self {
            findings,
            not_judged: BTreeMap::new(),
            not_judged_shown: Vec::new(),
            clocks: Clocks::default(),
        }
    }

    /// Counts one checked fact of `rule`. `broken` describes it when it does not hold.
    pub(crate) fn check(&mut self, rule: Rule, holds: bool, broken: impl FnOnce() -> Violation) {
        let finding = &mut self.findings[rule as usize];
        finding.checked += 1;
        if !holds {
            finding.violated += 1;
            if finding.violations.len() < Finding::SHOWN {
                finding.violations.push(broken());
            }
        }
    }

    /// Counts one fact of `rule`. A fact that does not hold is not judged when `depends` says that unreadable data
    /// may be the reason.
    pub(crate) fn judge(
        &mut self,
        rule: Rule,
        holds: bool,
        depends: bool,
        broken: impl FnOnce() -> Violation,
    ) {
        if !holds && depends {
            self.doubt(rule);
        } else {
            self.check(rule, holds, broken);
        }
    }

    /// Counts one fact that only a history at rest can judge.
    pub(crate) fn defer(&mut self, rule: Rule) {
        self.findings[rule as usize].deferred += 1;
    }

    /// Counts one fact that depends on data which this release cannot read.
    pub(crate) fn doubt(&mut self, rule: Rule) {
        self.findings[rule as usize].not_judged += 1;
    }

    /// Records an entry or a row that this release cannot read.
    pub(crate) fn unknown(&mut self, unknown: Unknown, place: Violation) {
        *self.not_judged.entry(unknown).or_default() += 1;
        if self.not_judged_shown.len() < Finding::SHOWN {
            self.not_judged_shown.push(NotJudged { unknown, place });
        }
    }

    pub(crate) fn finish(self, at_rest: bool, entries: u64) -> Report {
        let Self { findings, not_judged, not_judged_shown, clocks } = self;
        Report { at_rest, entries, not_judged, not_judged_shown, clocks, findings }
    }
}
