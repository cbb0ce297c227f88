import DequeModule
import HoldfastProtocol
import NIOCore

/// What ``MemoryBroker`` keeps, without lock and clock: all times are arguments, in microseconds.
struct MemoryStore: Sendable {
    private let limits: MemoryBroker.Limits
    let epoch: String
    private var outlet = BrokerOutlet(shards: 1) { _, _ in }
    private var topics = NameTable<MemoryTopic>()
    private var idempotency: IdempotencyKeys
    /// Every kept publication, oldest first, by the age that its topic allows: the front of each is the next to expire.
    private var ages: [Int64: Deque<Kept>] = [:]
    /// Topics with neither history nor subscribers, in the order in which they became so.
    private var idle = Deque<(name: String, since: Int64)>()
    /// Highest sequence of a topic that was forgotten. New topics begin above it, so that an offset is never given twice in
    /// an epoch, and a client that comes back to a forgotten topic is told of a gap rather than lied to.
    private var floor: UInt64 = 0
    private(set) var statistics = BrokerStatistics()

    private struct Kept: Sendable {
        let topic: MemoryTopic
        let sequence: UInt64
        let expires: Int64
    }

    init(limits: MemoryBroker.Limits, epoch: String) {
        self.limits = limits
        self.epoch = epoch
        self.idempotency = IdempotencyKeys(limit: limits.idempotencyKeys, ttl: Int64(limits.idempotencyTTL * 1_000_000))
    }

    mutating func start(_ outlet: BrokerOutlet) {
        self.outlet = outlet
    }

    mutating func publish(
        _ draft: PublicationDraft,
        history: HistorySettings,
        receivedAt: String,
        now: Int64
    ) throws(BrokerError) -> PublishReceipt {
        if let key = draft.idempotencyKey, let receipt = self.idempotency.receipt(draft.subscription, key, now: now) {
            self.statistics.duplicates += 1
            return receipt
        }
        let topic = try self.topic(draft.subscription, now: now)
        topic.sequence += 1
        self.statistics.published += 1
        let publication = Publication(
            subscription: draft.subscription,
            // A copy of its own, so that a history entry does not keep a whole request body alive.
            data: ByteBuffer(bytes: draft.data.readableBytesView),
            id: "\(self.epoch)-\(self.statistics.published)",
            sequence: topic.sequence,
            position: history.isKept ? Position(epoch: self.epoch, offset: topic.sequence) : nil,
            publishedAt: draft.publishedAt,
            receivedAt: receivedAt,
            conditions: draft.conditions
        )
        self.handOut(publication, topic, history, now: now)
        let receipt = PublishReceipt(id: publication.id, position: publication.position)
        if let key = draft.idempotencyKey { self.idempotency.remember(draft.subscription, key, receipt, now: now) }
        return receipt
    }

    private mutating func handOut(
        _ publication: Publication,
        _ topic: MemoryTopic,
        _ history: HistorySettings,
        now: Int64
    ) {
        if history.isKept { self.keep(publication, topic, history, now: now) }
        if !topic.isInUse { self.markIdle(topic, now: now) }
        for (shard, isInterested) in topic.interest.enumerated() where isInterested {
            self.outlet.sink(publication, shard)
        }
    }

    /// The mark takes a place in the topic, so that it comes in order whatever way a subscriber gets its publications.
    mutating func markGap(_ subscription: String, history: HistorySettings, now: Int64) {
        guard let topic = try? self.topic(subscription, now: now) else { return }
        topic.sequence += 1
        let mark = Publication(
            subscription: subscription,
            data: ByteBuffer(),
            id: "",
            sequence: topic.sequence,
            position: history.isKept ? Position(epoch: self.epoch, offset: topic.sequence) : nil,
            publishedAt: nil,
            receivedAt: "",
            isGap: true
        )
        self.handOut(mark, topic, history, now: now)
    }

    mutating func subscribe(
        _ subscription: String,
        shard: Int,
        since: Position?,
        history: HistorySettings,
        now: Int64
    ) throws(BrokerError) -> Recovery {
        self.expire(now: now)
        let topic = try self.topic(subscription, now: now)
        topic.interest[shard] = true
        topic.idleSince = nil
        guard history.isKept else {
            return Recovery(
                outcome: since == nil ? .fresh : .gap(after: nil, next: nil),
                position: nil,
                sequence: topic.sequence,
                publications: []
            )
        }
        let outcome: Recovery.Outcome
        let publications: [Publication]
        if let since {
            let isKnown = since.epoch == self.epoch && since.offset <= topic.sequence
            let next = topic.firstKept
            if isKnown, since.offset + 1 >= next {
                outcome = .recovered
                publications = topic.publications(after: since.offset, limit: .max)
            } else {
                outcome = .gap(after: isKnown ? since.offset : nil, next: next)
                publications = topic.publications(after: 0, limit: .max)
            }
        } else {
            outcome = .fresh
            publications = []
        }
        return Recovery(
            outcome: outcome,
            position: Position(epoch: self.epoch, offset: topic.sequence),
            sequence: topic.sequence,
            publications: publications
        )
    }

    mutating func unsubscribe(_ subscription: String, shard: Int, now: Int64) {
        guard let topic = self.topics[subscription] else { return }
        topic.interest[shard] = false
        if !topic.isInUse { self.markIdle(topic, now: now) }
    }

    mutating func history(_ subscription: String, since: UInt64?, limit: Int, now: Int64) -> HistoryPage {
        self.expire(now: now)
        let topic = self.topics[subscription]
        // Marks are no publications, and must not take their places on a page.
        let all = (topic?.publications(after: since ?? 0, limit: .max) ?? []).lazy.filter { !$0.isGap }
        let publications = Array(all.prefix(limit))
        return HistoryPage(
            position: Position(epoch: self.epoch, offset: topic?.sequence ?? self.floor),
            publications: publications,
            hasMore: all.dropFirst(limit).first != nil
        )
    }

    private mutating func topic(_ name: String, now: Int64) throws(BrokerError) -> MemoryTopic {
        if let topic = self.topics[name] { return topic }
        if self.topics.count >= self.limits.topics {
            // A topic whose history is over is idle, too.
            self.expire(now: now)
            self.forgetIdleTopics(now: now, evenFresh: true)
        }
        guard self.topics.count < self.limits.topics else {
            throw BrokerError(
                "the limit of \(self.limits.topics) topics is reached (broker.topics)",
                isRetriable: true
            )
        }
        let topic = MemoryTopic(name: name, sequence: self.floor, shards: self.outlet.shards)
        self.topics[name] = topic
        self.statistics.topics = self.topics.count
        return topic
    }

    private mutating func keep(_ publication: Publication, _ topic: MemoryTopic, _ history: HistorySettings, now: Int64)
    {
        topic.append(publication)
        topic.idleSince = nil
        self.statistics.historyPublications += 1
        self.statistics.historyBytes += topic.cost(of: publication)
        let age = Int64(history.ttl * 1_000_000)
        self.ages[age, default: Deque()].append(Kept(topic: topic, sequence: publication.sequence, expires: now + age))
        while topic.isOver(history) { self.forgetOldest(of: topic, now: now) }
        self.expire(now: now)
        while self.statistics.historyBytes > self.limits.historyBytes, let age = self.oldestAge() {
            guard let kept = self.ages[age]?.popFirst() else { break }
            if kept.topic.firstKept <= kept.sequence { self.forgetOldest(of: kept.topic, now: now) }
        }
        self.dropStaleAges(age)
    }

    /// Of all publications that are kept, the age class of the one published first.
    private func oldestAge() -> Int64? {
        self.ages.min { left, right in
            (left.value.first?.expires ?? .max) - left.key < (right.value.first?.expires ?? .max) - right.key
        }?.key
    }

    /// Entries of publications that went because of their topic's size stay in `ages`; they must not pile up.
    private mutating func dropStaleAges(_ age: Int64) {
        guard let entries = self.ages[age], entries.count > 2 * self.statistics.historyPublications + 1024 else {
            return
        }
        self.ages[age] = Deque(entries.filter { $0.sequence >= $0.topic.firstKept })
    }

    private mutating func forgetOldest(of topic: MemoryTopic, now: Int64) {
        guard let publication = topic.removeFirst() else { return }
        self.statistics.historyPublications -= 1
        self.statistics.historyBytes -= topic.cost(of: publication)
        if !topic.isInUse { self.markIdle(topic, now: now) }
    }

    mutating func expire(now: Int64) {
        for age in self.ages.keys {
            while let kept = self.ages[age]?.first, kept.expires <= now || kept.sequence < kept.topic.firstKept {
                self.ages[age]?.removeFirst()
                // An expired publication takes those before it along: a history has no holes.
                while kept.expires <= now, kept.topic.firstKept <= kept.sequence {
                    self.forgetOldest(of: kept.topic, now: now)
                }
            }
            if self.ages[age]?.isEmpty == true { self.ages[age] = nil }
        }
        self.idempotency.expire(now: now)
        self.statistics.idempotencyKeys = self.idempotency.count
        self.forgetIdleTopics(now: now, evenFresh: false)
    }

    private mutating func markIdle(_ topic: MemoryTopic, now: Int64) {
        guard topic.idleSince == nil else { return }
        topic.idleSince = now
        self.idle.append((topic.name, now))
    }

    private mutating func forgetIdleTopics(now: Int64, evenFresh: Bool) {
        let ttl = evenFresh ? 0 : Int64(self.limits.topicTTL * 1_000_000)
        while let first = self.idle.first, first.since + ttl <= now {
            self.idle.removeFirst()
            guard let topic = self.topics[first.name], topic.idleSince == first.since else { continue }
            topic.idleSince = nil
            self.floor = max(self.floor, topic.sequence)
            self.topics[first.name] = nil
        }
        self.statistics.topics = self.topics.count
    }
}
