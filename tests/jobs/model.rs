//! Every operation, in random order, beside a model that is a list of jobs. Workers die (they drop what they have
//! claimed), leases end, clocks are set back, transactions are given up, and several handles are used in turn.

use crate::random::Random;
use crate::support::{Fixture, SECOND};
use memstone::memory::Timestamp;
use memstone::memory::jobs::{
    Backoff, Claim, Enqueued, Failed, Job, JobCounts, JobError, JobId, JobState, Jobs, Priority,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const QUEUES: [&str; 2] = ["q", "r"];
const NAMESPACES: [&str; 4] = ["", "a", "a/b", "c"];
const KEYS: [&str; 3] = ["x", "y", "z"];
const BATCH: usize = 16;

type LaneName = (&'static str, &'static str);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    /// By class and place.
    Waiting(usize, u64),
    Delayed(Timestamp),
    Running(Timestamp),
    Done(Timestamp),
    Cancelled(Timestamp),
    Dead,
}

impl Is {
    fn is_open(self) -> bool {
        matches!(self, Is::Waiting(..) | Is::Delayed(_) | Is::Running(_))
    }
}

#[derive(Debug, Clone)]
struct Known {
    lane: LaneName,
    is: Is,
    class: usize,
    attempts: u32,
    most: u32,
    backoff: (Duration, Duration),
    keep: Duration,
    key: Option<(&'static str, bool)>,
    token: u64,
    worker: Option<String>,
    progress: Value,
    error: Option<String>,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct Model {
    jobs: BTreeMap<JobId, Known>,
    /// When a lane was made, and its turn.
    lanes: BTreeMap<LaneName, (u64, Option<u64>)>,
    sequence: u64,
}

impl Model {
    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn of(&self, lane: LaneName) -> impl Iterator<Item = (JobId, &Known)> {
        self.jobs.iter().filter(move |(_, known)| known.lane == lane).map(|(id, known)| (*id, known))
    }

    fn first(&self, lane: LaneName) -> Option<(usize, u64, JobId)> {
        let waiting = self.of(lane).filter_map(|(id, known)| match known.is {
            Is::Waiting(class, place) => Some((class, place, id)),
            _ => None,
        });
        waiting.min()
    }

    fn due(&self, lane: LaneName) -> Vec<(Timestamp, JobId)> {
        let delayed = self.of(lane).filter_map(|(id, known)| match known.is {
            Is::Delayed(until) => Some((until, id)),
            _ => None,
        });
        let mut delayed: Vec<_> = delayed.collect();
        delayed.sort();
        delayed
    }

    fn leases(&self, queue: &str) -> Vec<(Timestamp, JobId)> {
        let running = self.jobs.iter().filter(|(_, known)| known.lane.0 == queue);
        let mut leases: Vec<_> = running
            .filter_map(|(id, known)| match known.is {
                Is::Running(until) => Some((until, *id)),
                _ => None,
            })
            .collect();
        leases.sort();
        leases
    }

    /// Changes a job, and with it the turn of its lane.
    fn set(&mut self, id: JobId, is: Option<Is>, served: Option<u64>) {
        let lane = self.jobs[&id].lane;
        match is {
            Some(is) => self.jobs.get_mut(&id).unwrap().is = is,
            None => drop(self.jobs.remove(&id)),
        }
        self.settle(lane, served);
    }

    fn settle(&mut self, lane: LaneName, served: Option<u64>) {
        if self.of(lane).next().is_none() {
            self.lanes.remove(&lane);
            return;
        }
        if !self.lanes.contains_key(&lane) {
            let made = self.next();
            self.lanes.insert(lane, (made, None));
        }
        let (made, turn) = self.lanes[&lane];
        let turn = match (self.first(lane), served) {
            (None, _) => None,
            (Some(_), Some(turn)) => Some(turn),
            (Some(_), None) => Some(turn.unwrap_or_else(|| self.next())),
        };
        self.lanes.insert(lane, (made, turn));
    }

    fn wait(&mut self, id: JobId, class: usize) {
        let place = self.next();
        self.set(id, Some(Is::Waiting(class, place)), None);
    }

    fn wake(&mut self, lane: LaneName, now: Timestamp) {
        for (_, id) in self.due(lane).into_iter().filter(|(due, _)| *due <= now).take(BATCH) {
            let class = self.jobs[&id].class;
            self.wait(id, class);
        }
    }

    /// Whether there may be more to look at.
    fn advance(&mut self, queue: &str, now: Timestamp) -> bool {
        let ended: Vec<_> = self.leases(queue).into_iter().filter(|(until, _)| *until <= now).take(BATCH).collect();
        for (_, id) in &ended {
            let known = self.jobs.get_mut(id).unwrap();
            let worker = known.worker.clone().unwrap();
            known.error = Some(format!("attempt {}: the lease of worker {worker:?} ended", known.attempts));
            if known.attempts >= known.most {
                known.token = 0;
                self.set(*id, Some(Is::Dead), None);
            } else {
                self.wait(*id, 0);
            }
        }
        let sleeping = self.lanes.iter().filter(|(lane, (_, turn))| lane.0 == queue && turn.is_none());
        let due = sleeping.filter_map(|(lane, (made, _))| Some((self.due(*lane).first()?.0, *made, *lane)));
        let mut due: Vec<_> = due.filter(|(due, ..)| *due <= now).collect();
        due.sort();
        due.truncate(BATCH);
        due.iter().for_each(|(_, _, lane)| self.wake(*lane, now));
        ended.len() == BATCH || due.len() == BATCH
    }

    /// The job that a claim gets, and its lane's new turn.
    fn claim(&mut self, queues: &[&str], now: Timestamp) -> Option<(JobId, u64)> {
        loop {
            let more = queues.iter().fold(false, |more, queue| self.advance(queue, now) | more);
            let turns = self.lanes.iter().filter(|(lane, _)| queues.contains(&lane.0));
            let next = turns.filter_map(|(lane, (_, turn))| Some(((*turn)?, *lane))).min();
            if let Some((_, lane)) = next {
                self.wake(lane, now);
                let (_, _, id) = self.first(lane).unwrap();
                return Some((id, self.next()));
            }
            if !more {
                return None;
            }
        }
    }

    fn holder(&self, lane: LaneName, key: &str) -> Option<JobId> {
        let mut holders = self.of(lane).filter(|(_, known)| known.is.is_open());
        holders.find(|(_, known)| known.key.is_some_and(|(other, _)| other == key)).map(|(id, _)| id)
    }

    /// What becomes of a call with this claim.
    fn held(&self, claim: &Claim) -> Result<(), &'static str> {
        match self.jobs.get(&claim.id) {
            Some(known) if known.token == claim.token => match known.is {
                Is::Waiting(..) | Is::Running(_) => Ok(()),
                Is::Cancelled(_) => Err("cancelled"),
                _ => Err("lost"),
            },
            _ => Err("lost"),
        }
    }
}

struct Play {
    f: Fixture,
    handles: Vec<Jobs>,
    model: Model,
    random: Random,
    /// What workers have, or have had.
    claims: Vec<Claim>,
    last_token: u64,
    effects: BTreeMap<JobId, u64>,
}

fn draw<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len())]
}

impl Play {
    fn jobs(&mut self) -> Jobs {
        let at = self.random.below(self.handles.len());
        self.handles[at].clone()
    }

    fn some_id(&mut self) -> JobId {
        let all: Vec<JobId> = self.model.jobs.keys().copied().collect();
        if all.is_empty() || self.random.one_in(10) { JobId::from_u64(1 << 40) } else { draw(&mut self.random, &all) }
    }

    fn some_claim(&mut self) -> Option<Claim> {
        if self.claims.is_empty() {
            return None;
        }
        let at = self.random.below(self.claims.len());
        Some(if self.random.one_in(4) { self.claims[at].clone() } else { self.claims.swap_remove(at) })
    }

    fn enqueue(&mut self) {
        let (now, random) = (self.f.now(), &mut self.random);
        let lane: LaneName = (draw(random, &QUEUES), draw(random, &NAMESPACES));
        let priority = draw(random, &[Priority::High, Priority::Normal, Priority::Low]);
        let (most, keep) = (1 + random.below(3_u32), SECOND * draw(random, &[0, 0, 5, 20]));
        let backoff = (SECOND * random.below(3_u32), SECOND * 4);
        let payload = random.bytes(4);
        let mut job = Job::new(lane.0, payload.clone()).priority(priority).attempts(most).keep(keep);
        job = job.backoff(Backoff::new(backoff.0, backoff.1));
        let delay = if random.one_in(2) { Duration::ZERO } else { SECOND * random.below(8_u32) };
        job = if random.one_in(2) { job.delay(delay) } else { job.at(now + delay) };
        let key = random.one_in(3).then(|| (draw(random, &KEYS), random.one_in(2)));
        job = match key {
            None => job,
            Some((key, false)) => job.key(key),
            Some((key, true)) => job.key_until_claimed(key),
        };
        let Enqueued { id, duplicate, .. } = self.jobs().enqueue(lane.1, job).unwrap();
        let holder = key.and_then(|(key, _)| self.model.holder(lane, key));
        assert_eq!(duplicate.then_some(id), holder);
        if duplicate {
            return;
        }
        self.forget(now);
        let class = priority as usize + 1;
        let known = Known {
            lane,
            is: Is::Dead,
            class,
            attempts: 0,
            most,
            backoff,
            keep,
            key,
            token: 0,
            worker: None,
            progress: Value::Null,
            error: None,
            payload,
        };
        assert!(self.model.jobs.keys().all(|known| *known < id), "ids rise");
        if self.model.of(lane).next().is_none() {
            let made = self.model.next();
            self.model.lanes.insert(lane, (made, None));
        }
        self.model.jobs.insert(id, known);
        if delay.is_zero() {
            self.model.wait(id, class);
        } else {
            self.model.set(id, Some(Is::Delayed(now + delay)), None);
        }
    }

    /// Two of those that were kept long enough go.
    fn forget(&mut self, now: Timestamp) {
        let ended = self.model.jobs.iter().filter_map(|(id, known)| match known.is {
            Is::Done(until) | Is::Cancelled(until) => Some((until, *id)),
            _ => None,
        });
        let mut ended: Vec<_> = ended.filter(|(until, _)| *until <= now).collect();
        ended.sort();
        ended.into_iter().take(2).for_each(|(_, id)| self.model.set(id, None, None));
    }

    fn claim(&mut self) {
        let (now, lease) = (self.f.now(), SECOND * self.random.below(6_u32));
        let queues = draw(&mut self.random, &[&["q"][..], &["r"], &["q", "r"], &["r", "none", "q"]]);
        let worker = format!("worker {}", self.random.below(3_u8));
        let claim = self.jobs().claim(&worker, queues, lease).unwrap();
        let expected = self.model.claim(queues, now);
        assert_eq!(claim.as_ref().map(|claim| claim.id), expected.map(|(id, _)| id));
        let (Some(claim), Some((id, turn))) = (claim, expected) else { return };
        assert!(claim.token > self.last_token, "tokens rise");
        self.last_token = claim.token;
        let known = self.model.jobs.get_mut(&id).unwrap();
        known.attempts += 1;
        known.token = claim.token;
        known.worker = Some(worker);
        known.key = known.key.filter(|(_, until_claimed)| !until_claimed);
        assert_eq!((claim.attempt, claim.max_attempts, claim.until), (known.attempts, known.most, now + lease));
        assert_eq!((&claim.payload, &claim.progress), (&known.payload, &known.progress));
        assert_eq!((claim.queue.as_str(), claim.namespace.to_string().as_str()), known.lane);
        self.model.set(id, Some(Is::Running(now + lease)), Some(turn));
        // A worker that dies says nothing any more.
        if !self.random.one_in(5) {
            self.claims.push(claim);
        }
    }

    /// One of the calls of a worker.
    fn report(&mut self) {
        let Some(claim) = self.some_claim() else { return };
        let (now, id, jobs, held) = (self.f.now(), claim.id, self.jobs(), self.model.held(&claim));
        let (lease, number) = (SECOND * self.random.below(6_u32), self.random.below(1000_u32));
        let result: Result<Option<Failed>, JobError> = match self.random.below(10_u8) {
            0 => {
                let result = jobs.heartbeat(&claim, lease);
                if held.is_ok() {
                    self.model.set(id, Some(Is::Running(now + lease)), None);
                }
                result.map(|until| assert_eq!(until, now + lease)).map(|()| None)
            }
            1 => {
                let result = jobs.progress(&claim, json!({ "at": number }));
                if held.is_ok() {
                    self.model.jobs.get_mut(&id).unwrap().progress = json!({ "at": number });
                }
                result.map(|()| None)
            }
            2 | 3 => {
                let result = jobs.fail(&claim, &format!("error {number}"));
                if held.is_ok() {
                    self.failed(id, now, *result.as_ref().unwrap(), number);
                }
                result.map(Some)
            }
            4 => {
                let result = jobs.give_up(&claim, &format!("error {number}"));
                if held.is_ok() {
                    self.bury(id, number);
                }
                result.map(|()| None)
            }
            5 => {
                let result = jobs.release(&claim);
                if held.is_ok() {
                    let known = self.model.jobs.get_mut(&id).unwrap();
                    (known.token, known.attempts) = (0, known.attempts - 1);
                    self.model.wait(id, 0);
                }
                result.map(|()| None)
            }
            _ => {
                let given_up = self.random.one_in(5);
                let result = self.complete(&jobs, &claim, given_up);
                if held.is_ok() && !given_up {
                    *self.effects.entry(id).or_default() += 1;
                    self.end(id, now, Is::Done, Timestamp::MIN);
                }
                match result {
                    Err(JobError::NotFound { .. }) if given_up => return,
                    result => result.map(|()| None),
                }
            }
        };
        match (held, result) {
            (Ok(()), Ok(_)) | (Err("lost"), Err(JobError::Lost { .. })) => {}
            (Err("cancelled"), Err(JobError::Cancelled { .. })) => {}
            (held, result) => panic!("{held:?}, and the answer is {result:?}"),
        }
    }

    /// An effect in the transaction that finishes the job; or the transaction is given up.
    fn complete(&self, jobs: &Jobs, claim: &Claim, given_up: bool) -> Result<(), JobError> {
        jobs.complete(claim, |tx| {
            let count = |count: Option<&[u8]>| Some(vec![count.map_or(0, |count| count[0]) + 1]);
            tx.raw("effects")?.update(&claim.id.as_u64().to_be_bytes(), count)?;
            if given_up { Err(JobError::NotFound { id: claim.id }) } else { Ok(()) }
        })
    }

    fn failed(&mut self, id: JobId, now: Timestamp, failed: Failed, number: u32) {
        let known = self.model.jobs.get_mut(&id).unwrap();
        let Failed::Again(due) = failed else {
            assert_eq!(known.attempts, known.most);
            return self.bury(id, number);
        };
        assert!(known.attempts < known.most);
        let whole = (known.backoff.0 * (1 << (known.attempts - 1))).min(known.backoff.1);
        assert!((whole / 2..=whole).contains(&due.since(now)), "{whole:?}");
        (known.token, known.error) = (0, Some(format!("error {number}")));
        let class = known.class;
        if due > now {
            self.model.set(id, Some(Is::Delayed(due)), None);
        } else {
            self.model.wait(id, class);
        }
    }

    fn bury(&mut self, id: JobId, number: u32) {
        let known = self.model.jobs.get_mut(&id).unwrap();
        (known.token, known.error) = (0, Some(format!("error {number}")));
        self.model.set(id, Some(Is::Dead), None);
    }

    fn end(&mut self, id: JobId, now: Timestamp, is: fn(Timestamp) -> Is, least: Timestamp) {
        let until = (now + self.model.jobs[&id].keep).max(least);
        self.model.set(id, (until > now).then(|| is(until)), None);
    }

    fn administer(&mut self) {
        let (id, now, jobs) = (self.some_id(), self.f.now(), self.jobs());
        let is = self.model.jobs.get(&id).map(|known| known.is);
        match self.random.below(3_u8) {
            0 => match jobs.cancel(id) {
                Ok(cancelled) => {
                    assert_eq!(cancelled, is.unwrap().is_open());
                    let least = if let Some(Is::Running(until)) = is { until } else { Timestamp::MIN };
                    if cancelled {
                        self.end(id, now, Is::Cancelled, least);
                    }
                }
                Err(error) => assert!(matches!(error, JobError::NotFound { .. }) && is.is_none()),
            },
            1 => match jobs.retry(id) {
                Ok(()) => {
                    assert_eq!(is, Some(Is::Dead));
                    let known = &self.model.jobs[&id];
                    let taken = known.key.is_some_and(|(key, _)| self.model.holder(known.lane, key).is_some());
                    let known = self.model.jobs.get_mut(&id).unwrap();
                    known.attempts = 0;
                    known.key = known.key.filter(|_| !taken);
                    let class = known.class;
                    self.model.wait(id, class);
                }
                Err(JobError::NotFound { .. }) => assert!(is.is_none()),
                Err(error) => assert!(matches!(error, JobError::WrongState { .. }) && is != Some(Is::Dead)),
            },
            _ => match jobs.remove(id) {
                Ok(()) => {
                    assert!(!is.unwrap().is_open());
                    self.model.set(id, None, None);
                }
                Err(JobError::NotFound { .. }) => assert!(is.is_none()),
                Err(error) => assert!(matches!(error, JobError::WrongState { .. }) && is.unwrap().is_open()),
            },
        }
    }

    /// Several operations that are taken back together.
    fn give_up(&mut self) {
        let (id, claim) = (self.some_id(), self.claims.first().cloned());
        let failed = self.jobs().write(|tx| {
            tx.enqueue("c", Job::new("q", "never"))?;
            let claimed = tx.claim("never", &QUEUES, SECOND)?.unwrap();
            tx.progress(&claimed, 7)?;
            let _ = tx.cancel(id);
            if let Some(claim) = claim {
                let _ = tx.fail(&claim, "never");
            }
            Err::<(), _>(JobError::NotFound { id })
        });
        assert!(matches!(failed, Err(JobError::NotFound { .. })));
    }

    fn step(&mut self) {
        if self.random.one_in(60) {
            self.f.go_back(SECOND * self.random.below(5_u32));
        }
        self.f.pass(Duration::from_millis(self.random.below(600)));
        match self.random.below(40_u8) {
            0..12 => self.enqueue(),
            12..22 => self.claim(),
            22..34 => self.report(),
            34..38 => self.administer(),
            38 => self.give_up(),
            _ => self.f.pass(SECOND * self.random.below(10_u32)),
        }
    }

    /// Everything that can be asked has the model's answer.
    fn compare(&mut self) {
        self.f.is_clean();
        let snapshot = self.jobs().snapshot().unwrap();
        let mut counts: BTreeMap<(String, String), JobCounts> = BTreeMap::new();
        for (id, known) in &self.model.jobs {
            let job = snapshot.get(*id).unwrap().unwrap();
            let count = counts.entry((known.lane.0.to_owned(), known.lane.1.to_owned())).or_default();
            let (state, count) = match known.is {
                Is::Waiting(..) => (JobState::Waiting, &mut count.waiting),
                Is::Delayed(until) => (JobState::Delayed { until }, &mut count.delayed),
                Is::Running(until) => (JobState::Running { until }, &mut count.running),
                Is::Done(_) => (JobState::Done, &mut count.done),
                Is::Cancelled(_) => (JobState::Cancelled, &mut count.cancelled),
                Is::Dead => (JobState::Dead, &mut count.dead),
            };
            *count += 1;
            assert_eq!((job.id, job.state), (*id, state));
            assert_eq!((job.queue.as_str(), job.namespace.to_string().as_str()), known.lane);
            assert_eq!((job.attempts, job.max_attempts), (known.attempts, known.most));
            assert_eq!(job.key.as_deref(), known.key.map(|(key, _)| key));
            assert_eq!((&job.worker, &job.progress, &job.error), (&known.worker, &known.progress, &known.error));
            assert_eq!(snapshot.payload(*id).unwrap().as_ref(), Some(&known.payload));
        }
        let lanes = snapshot.lanes().unwrap().into_iter();
        let lanes: BTreeMap<_, _> = lanes.map(|l| ((l.queue, l.namespace.to_string()), l.counts)).collect();
        assert_eq!(lanes, counts);
        let listed: Vec<JobId> = snapshot.list(None, 10_000).unwrap().into_iter().map(|job| job.id).collect();
        assert_eq!(listed, self.model.jobs.keys().copied().collect::<Vec<_>>());
        for queue in QUEUES {
            for namespace in NAMESPACES {
                let dead = snapshot.dead(queue, namespace, None, 10_000).unwrap();
                let dead: Vec<JobId> = dead.into_iter().map(|job| job.id).collect();
                let expected = self.model.of((queue, namespace)).filter(|(_, known)| known.is == Is::Dead);
                assert_eq!(dead, expected.map(|(id, _)| id).collect::<Vec<_>>());
            }
            let lanes = self.model.lanes.iter().filter(|(lane, _)| lane.0 == queue);
            let due = lanes.filter_map(|(lane, (_, turn))| match turn {
                Some(_) => Some(Timestamp::MIN),
                None => self.model.due(*lane).first().map(|(due, _)| *due),
            });
            let lease = self.model.leases(queue).first().map(|(until, _)| *until);
            assert_eq!(snapshot.due(&[queue]).unwrap(), due.chain(lease).min());
        }
        let effects = snapshot.store_snapshot().raw("effects").unwrap().range(..).unwrap();
        let effects = effects.map(|row| {
            let (key, count) = row.unwrap();
            (JobId::from_u64(u64::from_be_bytes(*key.first_chunk().unwrap())), u64::from(count[0]))
        });
        assert_eq!(effects.collect::<BTreeMap<_, _>>(), self.effects);
        assert!(self.effects.values().all(|count| *count == 1), "each job has its effect once");
    }
}

#[test]
fn every_operation_does_what_the_model_does() {
    let mut done = 0;
    for seed in 0..40 {
        let f = Fixture::new();
        let handles = vec![f.jobs.clone(), f.another()];
        let (model, random) = (Model::default(), Random(seed));
        let (claims, effects) = (Vec::new(), BTreeMap::new());
        let mut play = Play { f, handles, model, random, claims, last_token: 0, effects };
        for round in 0..15 {
            for _ in 0..40 {
                play.step();
            }
            play.compare();
            if round == 7 {
                // What is in the log goes to the tree.
                play.f.jobs.store().checkpoint().unwrap();
                play.compare();
            }
        }
        done += play.effects.len();
    }
    assert!(done > 600, "only {done} jobs were done");
}
