import HoldfastCore
import TestSupport
import Testing

@testable import HoldfastBroker

/// One Redis and the connection to it: takes commands in order, answers in order, and loses both with the connection.
private struct SimulatedRedis {
    enum Command {
        case subscribe(String)
        case unsubscribe(String)
    }
    enum Answer {
        case acknowledged(String)
        case refused(String)
        case message(String)
    }

    var isUp = false
    var commands: [Command] = []
    var answers: [Answer] = []
    var subscribed: Set<String> = []
    /// Channels that it does not let anybody have.
    var forbidden: Set<String> = []

    mutating func down() {
        self.isUp = false
        self.commands = []
        self.answers = []
        self.subscribed = []
    }

    mutating func takeCommand() {
        guard !self.commands.isEmpty else { return }
        switch self.commands.removeFirst() {
        case .subscribe(let name) where self.forbidden.contains(name): self.answers.append(.refused(name))
        case .subscribe(let name):
            self.subscribed.insert(name)
            self.answers.append(.acknowledged(name))
        case .unsubscribe(let name): self.subscribed.remove(name)
        }
    }

    /// The channel is subscribed and stays so, as far as it has been told.
    func holds(_ name: String) -> Bool {
        let isLeaving = self.commands.contains { if case .unsubscribe(name) = $0 { true } else { false } }
        return self.isUp && self.subscribed.contains(name) && !isLeaving
    }
}

/// A table, its Redis servers, and what everybody has to be told.
private struct Simulation {
    static let shards = 3

    let linger: Double
    let timeout = 5.0
    var table: ChannelTable<Int>
    var redis: [SimulatedRedis]
    var now = 0.0
    /// Waiters that have no answer yet.
    var waiting: [Int: (name: String, since: Double)] = [:]
    var nextWaiter = 0
    /// Shards that have subscribed.
    var wanted: [String: Set<Int>] = [:]
    /// Channels with a message that was lost and not told of.
    var lost: Set<String> = []
    var counts: [ChannelTable<Int>.Answer: Int] = [:]
    var gaps = 0
    var complaints: [String] = []

    init(links: Int, linger: Double) {
        self.linger = linger
        self.table = ChannelTable(links: links, linger: .seconds(linger), timeout: .seconds(self.timeout))
        self.redis = Array(repeating: SimulatedRedis(), count: links)
    }

    private var instant: Instant { Instant(microseconds: 0) + .seconds(self.now) }

    private mutating func apply(_ effects: ChannelTable<Int>.Effects) {
        for (link, names) in effects.unsubscribe {
            if !self.redis[link].isUp { self.complaints.append("UNSUBSCRIBE without a connection") }
            self.redis[link].commands += names.map { .unsubscribe($0) }
        }
        for (link, names) in effects.subscribe {
            if !self.redis[link].isUp { self.complaints.append("SUBSCRIBE without a connection") }
            // Sorted, so that a seed gives the same run each time.
            self.redis[link].commands += names.sorted().map { .subscribe($0) }
        }
        for name in effects.gaps {
            self.gaps += 1
            self.lost.remove(name)
            if !self.redis.allSatisfy({ $0.holds(name) }) { self.complaints.append("a gap ends too early") }
        }
        for name in effects.lost { self.wanted[name] = nil }
        for (waiter, answer) in effects.answers {
            self.counts[answer, default: 0] += 1
            guard let name = self.waiting.removeValue(forKey: waiter)?.name else {
                self.complaints.append("\(waiter) is told \(answer), but has an answer")
                continue
            }
            guard answer == .live else { continue }
            if !self.redis.allSatisfy({ $0.holds(name) }) { self.complaints.append("\(name) is not live") }
            if self.lost.contains(name) { self.complaints.append("\(name) is live before its gap was told") }
        }
    }

    mutating func subscribe(_ name: String, shard: Int) {
        self.wanted[name, default: []].insert(shard)
        self.waiting[self.nextWaiter] = (name, self.now)
        self.nextWaiter += 1
        self.apply(self.table.subscribe(name, shard: shard, now: self.instant, self.nextWaiter - 1))
    }

    mutating func unsubscribe(_ name: String, shard: Int) {
        self.wanted[name]?.remove(shard)
        self.apply(self.table.unsubscribe(name, shard: shard, lingers: true, now: self.instant))
    }

    /// A backend publishes to one of the servers.
    mutating func publish(_ name: String, _ link: Int) {
        if self.redis[link].isUp, self.redis[link].subscribed.contains(name) {
            self.redis[link].answers.append(.message(name))
        } else {
            self.lost.insert(name)
        }
    }

    mutating func hear(_ link: Int) {
        guard !self.redis[link].answers.isEmpty else { return }
        switch self.redis[link].answers.removeFirst() {
        case .acknowledged(let name): self.apply(self.table.acknowledged(name, link))
        case .refused(let name):
            self.apply(self.table.refused(name, link))
        case .message: break
        }
    }

    mutating func toggle(_ link: Int) {
        if self.redis[link].isUp {
            for case .message(let name) in self.redis[link].answers { self.lost.insert(name) }
            self.redis[link].down()
            self.table.down(link)
        } else {
            self.redis[link].isUp = true
            self.apply(self.table.up(link))
        }
    }

    mutating func wait(_ seconds: Double) {
        self.now += seconds
        self.apply(self.table.expire(now: self.instant))
        for (waiter, wait) in self.waiting where wait.since + self.timeout + 0.000_001 < self.now {
            self.complaints.append("\(waiter) waits for \(wait.name) since \(self.now - wait.since) s")
        }
    }

    /// Lets everything that is on its way arrive.
    mutating func settle() {
        for link in self.redis.indices {
            while !self.redis[link].commands.isEmpty || !self.redis[link].answers.isEmpty {
                self.redis[link].takeCommand()
                self.hear(link)
            }
        }
    }

    mutating func step(_ names: [String], _ generator: inout SeededGenerator) {
        let link = Int.random(in: self.redis.indices, using: &generator)
        let shard = Int.random(in: 0..<Self.shards, using: &generator)
        guard let name = names.randomElement(using: &generator) else { return }
        switch Int.random(in: 0..<40, using: &generator) {
        case 0..<8: self.subscribe(name, shard: shard)
        case 8..<15: self.unsubscribe(name, shard: shard)
        case 15..<22: self.redis[link].takeCommand()
        case 22..<30: self.hear(link)
        case 30..<35: self.publish(name, link)
        case 35: self.toggle(link)
        case 36 where !self.redis[link].isUp: self.toggle(link)
        case 36: self.settle()
        case 37: self.wait(Double.random(in: 0...(2 * self.linger), using: &generator))
        default: self.wait(Double.random(in: 0...0.5, using: &generator))
        }
        for name in names {
            for shard in 0..<Self.shards
            where self.table.isWanted(name, shard: shard) != (self.wanted[name]?.contains(shard) ?? false) {
                self.complaints.append("\(name) is wanted wrongly by \(shard)")
            }
        }
    }

    /// All connections are there, and everything has arrived.
    mutating func calm() {
        for link in self.redis.indices where !self.redis[link].isUp { self.toggle(link) }
        self.settle()
        for (name, shards) in self.wanted where !shards.isEmpty {
            if !self.redis.allSatisfy({ $0.holds(name) }) { self.complaints.append("\(name) is not subscribed") }
            if self.lost.contains(name) { self.complaints.append("\(name): a gap was never told") }
        }
        if !self.waiting.isEmpty { self.complaints.append("\(self.waiting.count) wait in the calm") }
    }

    /// Everybody leaves.
    mutating func end() {
        for (name, shards) in self.wanted {
            for shard in shards { self.unsubscribe(name, shard: shard) }
        }
        self.wait(self.linger)
        self.settle()
        // Entries whose time is not over yet.
        self.wait(max(self.timeout, self.linger))
        for redis in self.redis where !redis.subscribed.isEmpty {
            self.complaints.append("\(redis.subscribed.sorted()) stay subscribed")
        }
        if self.table.count > 0 { self.complaints.append("\(self.table.count) channels are left") }
        if self.table.deadlineCount > 0 { self.complaints.append("\(self.table.deadlineCount) deadlines are left") }
    }
}

/// Random subscribers, acknowledgements and lost connections against a Redis that does as Redis does.
@Suite struct ChannelTableModelTests {
    private static let names = ["a", "b", "c", "d"]

    private func run(_ simulation: inout Simulation, _ seed: UInt64, steps: Int = 1500) {
        var generator = SeededGenerator(seed: seed)
        for step in 0..<steps {
            simulation.step(Self.names, &generator)
            if step % 300 == 299 { simulation.calm() }
            guard simulation.complaints.isEmpty else { break }
        }
        if simulation.complaints.isEmpty {
            simulation.calm()
            simulation.end()
        }
        #expect(simulation.complaints == [], "seed \(seed)")
    }

    @Test(arguments: [1, 2, 3], 0..<40 as Range<UInt64>)
    func liveIsLiveAndNothingStays(_ links: Int, _ seed: UInt64) {
        var simulation = Simulation(links: links, linger: [0, 0.2, 8][Int(seed % 3)])
        self.run(&simulation, seed)
        // The run was one of many changes.
        #expect(simulation.counts[.live, default: 0] > 20)
        #expect(simulation.gaps > 5)
    }

    @Test(arguments: [1, 2], 0..<30 as Range<UInt64>)
    func someChannelsAreRefused(_ links: Int, _ seed: UInt64) {
        var simulation = Simulation(links: links, linger: [0, 0.2, 8][Int(seed % 3)])
        simulation.redis[links - 1].forbidden = ["b", "d"]
        self.run(&simulation, seed)
        #expect(simulation.counts[.refused, default: 0] > 5)
        #expect(simulation.counts[.live, default: 0] > 10)
    }
}
