//! Many candidates around one lease, with clocks that run fast and slow, requests that are late or lost, processes that stop for a while and die:
//! never do two lead at a time, and soon one does.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range, time::Duration};

use tokio::time::Instant;

use super::super::{
    candidate::{Candidate, LEASE_DURATION, Next, RENEW_EVERY, Said, Seen, Step},
    lease::REQUEST_TIMEOUT,
};

/// By how much clocks run fast or slow: far more than clocks do.
const DRIFT: f64 = 0.1;

fn random() -> f64 {
    fastrand::f64()
}

/// Microseconds of true time.
type Time = u64;

fn micros(duration: Duration) -> Time {
    Time::try_from(duration.as_micros()).unwrap()
}

enum Event {
    Wake,
    Arrives { step: Step, asked: Instant },
    Answers { step: Step, asked: Instant, said: Said },
}

struct Node {
    candidate: Candidate,
    /// Local seconds in one of true time.
    rate: f64,
    /// The version that it saw last.
    version: u64,
    is_dead: bool,
}

struct World {
    begun: Instant,
    now: Time,
    nodes: Vec<Node>,
    events: BinaryHeap<Reverse<(Time, usize, usize)>>,
    happening: Vec<Event>,
    lease: Option<(u64, String)>,
    looks: Vec<Time>,
    /// Share of requests that are lost on either way.
    loss: f64,
    leaders: u32,
}

impl World {
    fn new(nodes: usize, drift: f64, loss: f64) -> Self {
        let begun = Instant::now();
        let nodes_of = |index: usize| Node {
            candidate: Candidate::new(format!("n{index}"), nodes, random, begun),
            rate: 1.0 + drift * (2.0 * random() - 1.0),
            version: 0,
            is_dead: false,
        };
        let mut world = Self {
            begun,
            now: 0,
            nodes: (0..nodes).map(nodes_of).collect(),
            events: BinaryHeap::new(),
            happening: Vec::new(),
            lease: None,
            looks: Vec::new(),
            loss,
            leaders: 0,
        };
        for index in 0..nodes {
            world.at(0, index, Event::Wake);
        }
        world
    }

    fn at(&mut self, time: Time, node: usize, event: Event) {
        self.happening.push(event);
        self.events
            .push(Reverse((time.max(self.now), self.happening.len() - 1, node)));
    }

    fn local(&self, node: usize) -> Instant {
        let seconds = Duration::from_micros(self.now).as_secs_f64();
        self.begun + Duration::from_secs_f64(seconds * self.nodes[node].rate)
    }

    /// The true time at which the node's clock shows this.
    fn when(&self, node: usize, at: Instant) -> Time {
        let local = at.saturating_duration_since(self.begun).as_secs_f64();
        micros(Duration::from_secs_f64(local / self.nodes[node].rate)) + 1
    }

    fn leader(&self) -> Option<usize> {
        // the dead write nothing
        let leads = |index: &usize| {
            let node = &self.nodes[*index];
            !node.is_dead && node.candidate.leads_until(self.local(*index)).is_some()
        };
        let mut leaders = (0..self.nodes.len()).filter(leads);
        let leader = leaders.next();
        assert_eq!(
            leaders.next(),
            None,
            "two lead at {:?}",
            Duration::from_micros(self.now)
        );
        leader
    }

    fn run(&mut self, until: Duration) {
        let until = micros(until);
        while let Some(Reverse((time, event, node))) = self.events.pop() {
            if time > until {
                self.events.push(Reverse((time, event, node)));
                self.now = until;
                return;
            }
            self.now = time;
            let event = std::mem::replace(&mut self.happening[event], Event::Wake);
            if !self.nodes[node].is_dead {
                self.happens(node, event);
            }
        }
    }

    /// Runs until somebody leads.
    fn until_led(&mut self) -> (usize, Time) {
        loop {
            if let Some(leader) = self.leader() {
                return (leader, self.now);
            }
            self.run(Duration::from_micros(self.now) + Duration::from_millis(50));
        }
    }

    fn happens(&mut self, index: usize, event: Event) {
        let local = self.local(index);
        match event {
            Event::Wake => match self.nodes[index].candidate.next(local) {
                Next::At(at) => {
                    let mut when = self.when(index, at);
                    // a process that gets no processor for a while
                    if self.loss > 0.0 && random() < 0.02 {
                        when += micros(Duration::from_secs_f64(30.0 * random()));
                    }
                    self.at(when, index, Event::Wake);
                }
                Next::Ask(step) => {
                    if step == Step::Look {
                        self.looks.push(self.now);
                    }
                    let late = self.latency();
                    self.at(self.now + late, index, Event::Arrives { step, asked: local });
                }
            },
            Event::Arrives { step, asked } => {
                let (is_lost, is_unheard) = (random() < self.loss, random() < self.loss);
                let said = if is_lost { None } else { Some(self.serve(index, step)) };
                let (late, said) = match said {
                    Some(said) if !is_unheard => (self.latency(), said),
                    _ => (micros(REQUEST_TIMEOUT), Said::Failed { retry_after: None }),
                };
                self.at(self.now + late, index, Event::Answers { step, asked, said });
            }
            Event::Answers { step, asked, said } => {
                let is_first = self.nodes[index].candidate.leads_until(local).is_none();
                let nodes = self.nodes.len();
                self.nodes[index].candidate.settle(step, said, asked, nodes, local);
                if is_first && self.nodes[index].candidate.leads_until(local).is_some() {
                    self.leaders += 1;
                }
                if self.loss > 0.0 {
                    self.leader();
                }
                self.happens(index, Event::Wake);
            }
        }
    }

    fn latency(&self) -> Time {
        let longest = if self.loss > 0.0 { 1_500_000.0 } else { 3_000.0 };
        micros(Duration::from_secs_f64(longest * random() / 1e6))
    }

    /// What an API server does.
    fn serve(&mut self, index: usize, step: Step) -> Said {
        let me = format!("n{index}");
        match (step, &self.lease) {
            (Step::Look, None) => Said::Seen(None),
            (Step::Look, Some((version, holder))) => {
                self.nodes[index].version = *version;
                Said::Seen(Some(Seen {
                    holder: holder.clone(),
                    renewal: version.to_string(),
                    duration: LEASE_DURATION,
                }))
            }
            (Step::Create, None) => self.write(index, 1, me),
            (Step::Take | Step::Renew, Some((version, _))) if *version == self.nodes[index].version => {
                self.write(index, version + 1, me)
            }
            _ => Said::Changed,
        }
    }

    fn write(&mut self, index: usize, version: u64, holder: String) -> Said {
        self.lease = Some((version, holder));
        self.nodes[index].version = version;
        Said::Held
    }
}

#[test]
fn never_do_two_lead_whatever_is_late_lost_or_stopped() {
    let mut leaders = 0;
    for seed in 0..60 {
        fastrand::seed(seed);
        let mut world = World::new(7, DRIFT, 0.15);
        world.run(Duration::from_secs(1800));
        leaders += world.leaders;
    }
    assert!(leaders > 300, "{leaders} terms began: too little happened");
}

#[test]
fn a_holder_that_dies_has_a_successor_soon_however_many_nodes_there_are() {
    for (nodes, deaths) in [(2, 1), (10, 5), (100, 3), (301, 2), (1000, 1)] {
        fastrand::seed(1);
        let mut world = World::new(nodes, 0.001, 0.0);
        let mut slowest = Duration::ZERO;
        for death in 1..=deaths {
            world.run(Duration::from_secs(100 * death));
            let (leader, _) = world.until_led();
            world.nodes[leader].is_dead = true;
            let died = world.now;
            slowest = slowest.max(Duration::from_micros(world.until_led().1 - died));
        }
        println!("{nodes} nodes: a successor leads within {slowest:?}");
        // the lease, the last renewal seen late, and in small clusters a look that comes late
        assert!(
            slowest <= LEASE_DURATION + 2 * RENEW_EVERY,
            "{nodes} nodes: {slowest:?}"
        );
        assert!(
            slowest >= LEASE_DURATION - RENEW_EVERY - Duration::from_millis(100),
            "{nodes} nodes: {slowest:?}"
        );
    }
}

#[test]
fn all_nodes_together_look_twenty_times_a_second_at_most() {
    for nodes in [1, 20, 100, 301, 1000] {
        fastrand::seed(2);
        let mut world = World::new(nodes, 0.001, 0.0);
        world.run(Duration::from_secs(300));
        for minute in 0..5 {
            let minute: Range<Time> = 60_000_000 * minute..60_000_000 * (minute + 1);
            let looks = world.looks.iter().filter(|at| minute.contains(*at)).count();
            println!("{nodes} nodes looked {looks} times within a minute");
            // a fifth more by chance, and the one who began a minute with its look
            assert!(
                looks <= 60 * 24 + 1,
                "{nodes} nodes looked {looks} times within a minute"
            );
        }
    }
}
