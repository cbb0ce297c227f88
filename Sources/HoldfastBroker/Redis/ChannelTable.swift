import DequeModule
import HoldfastCore

/// Which channels are subscribed on which connection, and who waits for it.
///
/// Sans-IO: it is told what happened and answers what to send and whom to tell. A channel is live once every connection has
/// acknowledged it, and stays so for a time after its last subscriber has left.
struct ChannelTable<Waiter: Sendable>: Sendable {
    enum Answer: Equatable, Sendable {
        /// The channel is live.
        case live
        /// Redis did not answer in time.
        case timeout
        /// Redis does not let us have it.
        case refused
    }

    /// What is to be done, in this order.
    struct Effects: Sendable {
        /// Channels by connection.
        var subscribe: [(link: Int, channels: [String])] = []
        var unsubscribe: [(link: Int, channels: [String])] = []
        /// Messages may have been missed up to here: to be told before anything that follows.
        var gaps: [String] = []
        var answers: [(waiter: Waiter, answer: Answer)] = []
    }

    private enum LinkState: Sendable {
        case none
        /// SUBSCRIBE is on its way.
        case asked
        case live
    }

    private struct Channel: Sendable {
        var links: [LinkState]
        /// Connections on which messages may have been missed. A channel that begins may have a history that ended before.
        var isBroken: [Bool]
        var shards: Set<Int> = []
        var waiters: [(waiter: Waiter, until: Instant)] = []
        /// When the channel goes, unless somebody subscribes before.
        var until: Instant?

        var isLive: Bool { self.links.allSatisfy { $0 == .live } }
    }

    private let linger: Span
    private let timeout: Span
    private var isUp: [Bool]
    private var channels: [String: Channel] = [:]
    /// SUBSCRIBEs that are not yet acknowledged, by connection. One that an UNSUBSCRIBE follows does not make a channel live.
    private var outstanding: [[String: Int]]
    /// Channels without subscribers, in the order in which they go; entries may be stale.
    private var lingering = Deque<(name: String, until: Instant)>()
    /// Names with waiters, in the order of their deadlines; entries may be stale.
    private var waiting = Deque<(name: String, until: Instant)>()

    init(links: Int, linger: Span, timeout: Span) {
        self.linger = linger
        self.timeout = timeout
        self.isUp = Array(repeating: false, count: links)
        self.outstanding = Array(repeating: [:], count: links)
    }

    var count: Int { self.channels.count }
    /// Whether every connection is there.
    var isReady: Bool { self.isUp.allSatisfy { $0 } }

    /// - Parameter waiter: told once the channel is live on all connections.
    mutating func subscribe(_ name: String, shard: Int, now: Instant, _ waiter: Waiter) -> Effects {
        var effects = Effects()
        var channel =
            self.channels[name]
            ?? Channel(
                links: self.isUp.map { _ in .none },
                isBroken: self.isUp.map { _ in true }
            )
        channel.shards.insert(shard)
        channel.until = nil
        for link in self.isUp.indices where self.isUp[link] && channel.links[link] == .none {
            channel.links[link] = .asked
            self.outstanding[link][name, default: 0] += 1
            effects.subscribe.append((link, [name]))
        }
        if channel.isLive {
            effects.answers.append((waiter, .live))
        } else {
            channel.waiters.append((waiter, now + self.timeout))
            self.waiting.append((name, now + self.timeout))
        }
        self.channels[name] = channel
        return effects
    }

    mutating func unsubscribe(_ name: String, shard: Int, now: Instant) -> Effects {
        guard self.channels[name]?.shards.remove(shard) != nil, self.channels[name]?.shards.isEmpty == true else {
            return Effects()
        }
        guard self.linger > .zero else {
            var effects = Effects()
            self.remove([name], &effects)
            return effects
        }
        self.channels[name]?.until = now + self.linger
        self.lingering.append((name, now + self.linger))
        return Effects()
    }

    private mutating func remove(_ names: [String], _ effects: inout Effects) {
        var gone: [[String]] = self.isUp.map { _ in [] }
        for name in names {
            guard let channel = self.channels.removeValue(forKey: name) else { continue }
            effects.answers += channel.waiters.map { ($0.waiter, .timeout) }
            for link in gone.indices where channel.links[link] != .none { gone[link].append(name) }
        }
        for (link, names) in gone.enumerated() where !names.isEmpty { effects.unsubscribe.append((link, names)) }
    }

    /// A connection is there: everything is subscribed anew.
    mutating func up(_ link: Int) -> Effects {
        self.isUp[link] = true
        var effects = Effects()
        let names = Array(self.channels.keys)
        for name in names {
            self.channels[name]?.links[link] = .asked
            self.outstanding[link][name, default: 0] += 1
        }
        if !names.isEmpty { effects.subscribe.append((link, names)) }
        return effects
    }

    /// A connection is gone, and what it has not delivered with it.
    mutating func down(_ link: Int) {
        self.isUp[link] = false
        self.outstanding[link] = [:]
        for name in self.channels.keys {
            self.channels[name]?.links[link] = .none
            self.channels[name]?.isBroken[link] = true
        }
    }

    /// Redis has acknowledged a SUBSCRIBE.
    mutating func acknowledged(_ name: String, _ link: Int) -> Effects {
        var effects = Effects()
        if let count = self.outstanding[link][name] { self.outstanding[link][name] = count > 1 ? count - 1 : nil }
        guard self.outstanding[link][name] == nil, var channel = self.channels[name], channel.links[link] == .asked else {
            return effects
        }
        channel.links[link] = .live
        if channel.isLive {
            if channel.isBroken.contains(true) {
                effects.gaps.append(name)
                channel.isBroken = channel.isBroken.map { _ in false }
            }
            effects.answers = channel.waiters.map { ($0.waiter, .live) }
            channel.waiters = []
        }
        self.channels[name] = channel
        return effects
    }

    /// Redis does not let us have the channel.
    mutating func refused(_ name: String, _ link: Int) -> Effects {
        var effects = Effects()
        self.outstanding[link][name] = nil
        self.channels[name]?.links[link] = .none
        effects.answers = self.channels[name]?.waiters.map { ($0.waiter, .refused) } ?? []
        self.channels[name]?.waiters = []
        self.remove([name], &effects)
        return effects
    }

    /// To be called every second or so.
    mutating func expire(now: Instant) -> Effects {
        var effects = Effects()
        var over: [String] = []
        while let first = self.lingering.first, first.until <= now {
            self.lingering.removeFirst()
            if self.channels[first.name]?.until == first.until { over.append(first.name) }
        }
        self.remove(over, &effects)
        while let first = self.waiting.first, first.until <= now {
            self.waiting.removeFirst()
            guard let channel = self.channels[first.name] else { continue }
            effects.answers += channel.waiters.filter { $0.until <= now }.map { ($0.waiter, .timeout) }
            self.channels[first.name]?.waiters.removeAll { $0.until <= now }
        }
        return effects
    }

    func isUp(_ link: Int) -> Bool { self.isUp[link] }

    func isWanted(_ name: String, shard: Int) -> Bool { self.channels[name]?.shards.contains(shard) ?? false }
}
