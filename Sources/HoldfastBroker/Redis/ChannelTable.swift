import HeapModule
import HoldfastCore
import HoldfastProtocol

/// Which channels are subscribed on which connection, and who waits for it.
///
/// Sans-IO: it is told what happened and answers what to send and whom to tell. A channel is live once every connection has
/// acknowledged it, and may stay so for a time after its last subscriber has left.
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
        /// Channels that Redis does not let us have, and that somebody may believe to have.
        var lost: [String] = []
    }

    private enum LinkState: Sendable {
        case none
        /// SUBSCRIBE is on its way.
        case asked
        case live
    }

    private struct Channel: Sendable {
        var links: [LinkState]
        var shards: Set<Int> = []
        /// Whether somebody who had it may come back and ask for what it missed.
        var lingers = false
        var waiters: [(waiter: Waiter, until: Instant)] = []
        /// When the channel goes, unless somebody subscribes before.
        var until: Instant?
        /// When ``expire(now:)`` looks at the channel; one entry of the heap for each.
        var lookAt: Instant?

        var isLive: Bool { self.links.allSatisfy { $0 == .live } }
    }

    private let linger: Span
    private let timeout: Span
    private var isUp: [Bool]
    private var channels = NameTable<Channel>()
    /// SUBSCRIBEs that are not yet acknowledged, by connection. One that an UNSUBSCRIBE follows does not make a channel live.
    private var outstanding: [NameTable<Int>]
    /// Channels to look at, at most two entries for each.
    private var deadlines = Heap<Deadline>()

    private struct Deadline: Comparable, Sendable {
        let at: Instant
        let name: String

        static func < (left: Deadline, right: Deadline) -> Bool { left.at < right.at }
    }

    init(links: Int, linger: Span, timeout: Span) {
        self.linger = linger
        self.timeout = timeout
        self.isUp = Array(repeating: false, count: links)
        self.outstanding = Array(repeating: NameTable(), count: links)
    }

    var count: Int { self.channels.count }
    /// Whether every connection is there.
    var isReady: Bool { self.isUp.allSatisfy { $0 } }

    /// - Parameter waiter: told once the channel is live on all connections.
    mutating func subscribe(_ name: String, shard: Int, now: Instant, _ waiter: Waiter) -> Effects {
        var effects = Effects()
        var channel = self.channels.removeValue(of: name) ?? Channel(links: self.isUp.map { _ in .none })
        channel.shards.insert(shard)
        channel.until = nil
        for link in self.isUp.indices where self.isUp[link] && channel.links[link] == .none {
            channel.links[link] = .asked
            self.countAsked(name, link)
            effects.subscribe.append((link, [name]))
        }
        if channel.isLive {
            effects.answers.append((waiter, .live))
        } else {
            channel.waiters.append((waiter, now + self.timeout))
            self.look(at: name, &channel)
        }
        self.channels[name] = channel
        return effects
    }

    /// One more shard has a channel, and waits for nothing: what it gets is what the others get.
    mutating func extend(_ name: String, to shard: Int) {
        self.channels[name]?.shards.insert(shard)
        self.channels[name]?.until = nil
    }

    /// - Parameter lingers: whether the channel is kept for a time once nobody has it any more.
    mutating func unsubscribe(_ name: String, shard: Int, lingers: Bool, now: Instant) -> Effects {
        guard self.channels[name]?.shards.remove(shard) != nil else { return Effects() }
        if lingers { self.channels[name]?.lingers = true }
        guard self.channels[name]?.shards.isEmpty == true, var channel = self.channels.removeValue(of: name) else {
            return Effects()
        }
        var effects = Effects()
        let isKept = channel.lingers && self.linger > .zero
        if isKept {
            channel.until = now + self.linger
            self.look(at: name, &channel)
        }
        self.channels[name] = channel
        if !isKept { self.remove(name, &effects) }
        return effects
    }

    /// Sees to it that ``expire(now:)`` looks at the channel in time.
    private mutating func look(at name: String, _ channel: inout Channel) {
        let next = [channel.waiters.first?.until, channel.until].compactMap { $0 }.min()
        guard let next, channel.lookAt.map({ next < $0 }) ?? true else { return }
        channel.lookAt = next
        self.deadlines.insert(Deadline(at: next, name: name))
    }

    private mutating func remove(_ name: String, _ effects: inout Effects) {
        guard let channel = self.channels.removeValue(of: name) else { return }
        effects.answers += channel.waiters.map { ($0.waiter, .timeout) }
        for link in channel.links.indices where channel.links[link] != .none {
            effects.unsubscribe.append((link, [name]))
        }
    }

    /// A connection is there: everything is subscribed anew.
    mutating func up(_ link: Int) -> Effects {
        self.isUp[link] = true
        var effects = Effects()
        let names = self.channels.names
        for name in names {
            self.channels[name]?.links[link] = .asked
            self.countAsked(name, link)
        }
        if !names.isEmpty { effects.subscribe.append((link, names)) }
        return effects
    }

    /// A connection is gone, and what it has not delivered with it.
    mutating func down(_ link: Int) {
        self.isUp[link] = false
        self.outstanding[link] = NameTable()
        for name in self.channels.names {
            self.channels[name]?.links[link] = .none
        }
    }

    /// Redis has acknowledged a SUBSCRIBE.
    mutating func acknowledged(_ name: String, _ link: Int) -> Effects {
        var effects = Effects()
        guard self.isLastAnswer(name, link) else { return effects }
        guard var channel = self.channels.removeValue(of: name) else {
            // Nobody wants it any more.
            effects.unsubscribe.append((link, [name]))
            return effects
        }
        if channel.links[link] == .asked {
            channel.links[link] = .live
            if channel.isLive {
                // A channel that begins may have a history that ended before.
                effects.gaps.append(name)
                effects.answers = channel.waiters.map { ($0.waiter, .live) }
                channel.waiters = []
            }
        }
        self.channels[name] = channel
        return effects
    }

    /// Redis does not let us have the channel.
    mutating func refused(_ name: String, _ link: Int) -> Effects {
        var effects = Effects()
        guard self.isLastAnswer(name, link), var channel = self.channels[name], channel.links[link] == .asked else {
            return effects
        }
        effects.answers = channel.waiters.map { ($0.waiter, .refused) }
        if !channel.shards.isEmpty { effects.lost.append(name) }
        channel.waiters = []
        channel.links[link] = .none
        self.channels[name] = channel
        self.remove(name, &effects)
        return effects
    }

    private mutating func countAsked(_ name: String, _ link: Int) {
        self.outstanding[link][name] = (self.outstanding[link][name] ?? 0) + 1
    }

    /// Counts the answers to SUBSCRIBEs: only that to the last one says how things are.
    private mutating func isLastAnswer(_ name: String, _ link: Int) -> Bool {
        let left = (self.outstanding[link][name] ?? 0) - 1
        self.outstanding[link][name] = left > 0 ? left : nil
        return left == 0
    }

    /// To be called every second or so.
    mutating func expire(now: Instant) -> Effects {
        var effects = Effects()
        while let first = self.deadlines.min, first.at <= now {
            self.deadlines.removeMin()
            guard self.channels[first.name]?.lookAt == first.at,
                var channel = self.channels.removeValue(of: first.name)
            else { continue }
            channel.lookAt = nil
            effects.answers += channel.waiters.filter { $0.until <= now }.map { ($0.waiter, .timeout) }
            channel.waiters.removeAll { $0.until <= now }
            let isOver = channel.until.map { $0 <= now } ?? false
            if !isOver { self.look(at: first.name, &channel) }
            self.channels[first.name] = channel
            if isOver { self.remove(first.name, &effects) }
        }
        return effects
    }

    /// Entries that are kept to look at channels.
    var deadlineCount: Int { self.deadlines.count }

    func isUp(_ link: Int) -> Bool { self.isUp[link] }

    func isWanted(_ name: String, shard: Int) -> Bool { self.channels[name]?.shards.contains(shard) ?? false }
}
