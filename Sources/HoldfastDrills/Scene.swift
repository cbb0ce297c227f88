import HoldfastFaults
import NIOCore

/// The usual set-up: a gateway, a fault proxy before it, one client, numbered events.
struct Scene: Sendable {
    let stage: Stage
    let target: Target
    let proxy: FaultProxy
    let client: any DrillClient
    let publisher: Publisher

    var clock: DrillClock { self.stage.clock }
    var log: SightingLog { self.client.log }

    /// Seconds that a client has to subscribe on a line that is whole, and events to come.
    static let readyDeadline = 20.0
    /// Events that are refused one after the other, all of them so far, before a drill gives up.
    private static let refusedLimit = 10
    /// A repetition would come behind what it repeats: seconds that are waited for one.
    static let settlePause = 0.3

    static func make(_ stage: Stage, clientInOwnProcess: Bool = false) async throws -> Scene {
        let target = try await stage.target()
        return Scene(
            stage: stage, target: target, proxy: try await stage.proxy(to: target),
            client: stage.client(inOwnProcess: clientInOwnProcess), publisher: try stage.publisher(to: [target.url]))
    }

    /// Connects, subscribes, and publishes from then on.
    func begin() async throws {
        self.stage.say("connecting")
        try await self.client.connect(
            url: self.target.url(through: self.proxy.port), subscription: self.stage.subscription)
        try await self.awaitReady(until: self.clock.now + Self.readyDeadline)
        self.publisher.start()
        try await self.awaitEvents(3, within: Self.readyDeadline)
    }

    func awaitReady(until deadline: Double) async throws {
        let ready = try await wait(self.clock, until: deadline) { () -> Bool? in
            if let failure = self.log.failure { throw DrillError("the client: \(failure)") }
            return self.log.first { $0 == .ready } == nil ? nil : true
        }
        guard ready != nil else { throw DrillError("the client did not subscribe in \(Self.readyDeadline.tenths) s") }
    }

    /// Waits for so many more events.
    func awaitEvents(_ count: Int, within seconds: Double) async throws {
        let since = self.clock.now
        let came = try await wait(self.clock, until: since + seconds) { () -> Bool? in
            if let failure = self.log.failure { throw DrillError("the client: \(failure)") }
            let messages = self.log.times(since: since) { $0.isMessage }
            if messages.count >= count { return true }
            let books = self.publisher.current
            guard books.last >= Self.refusedLimit, books.accepted.isEmpty, books.uncertain.isEmpty else { return nil }
            throw DrillError("no event is accepted; the publisher was told: \(books.lastProblem ?? "nothing")")
        }
        guard came != nil else {
            let why = self.publisher.current.lastProblem.map { "; the publisher was told: \($0)" } ?? ""
            throw DrillError("no events came on a line that is whole, in \(seconds.tenths) s\(why)")
        }
    }

    /// Notices the first sign of distrust since the fault, at most until then.
    @discardableResult
    func notice(since fault: Double, until deadline: Double) async throws -> Double? {
        let at = try await wait(self.clock, until: deadline) { self.log.first(since: fault) { $0 == .lost } }
        let after = at.map { $0 - fault }
        self.stage.change { $0.noticedAfter = after }
        return after
    }

    /// Waits for the first event since then.
    @discardableResult
    func back(since end: Double, within seconds: Double) async throws -> Double? {
        let at = try await wait(self.clock, until: end + seconds) { self.log.first(since: end) { $0.isMessage } }
        let after = at.map { $0 - end }
        self.stage.change { $0.backAfter = after }
        return after
    }

    /// Stops publishing, waits for what is on its way, and writes what became of the events into the result.
    /// - Parameter allowsGaps: a told gap is no failure.
    func settle(attemptsSince fault: Double, allowsGaps: Bool = false) async throws {
        self.stage.change { [log = self.log] in $0.attempts = log.times(since: fault) { $0.isAttempt }.count }
        try await self.stage.settle([self.client], self.publisher, allowsGaps: allowsGaps)
    }
}

extension Stage {
    /// Events that a drill must have published to be one.
    private static let leastPublished = 10

    func settle(_ clients: [any DrillClient], _ publisher: Publisher, allowsGaps: Bool) async throws {
        self.say("waiting for the last events")
        await publisher.stop()
        let books = publisher.current
        guard let last = books.lastAccepted, books.accepted.count >= Self.leastPublished else {
            throw DrillError(
                "only \(books.accepted.count) events were accepted of \(books.last): \(books.lastProblem ?? "no time")")
        }
        // Who does not get the last one has lost it, and is judged all the same.
        let every = clients.count > 1 ? 0.1 : 0.01
        let deadline = self.clock.now + max(5, self.settings.pace.grace / 2)
        while !clients.allSatisfy({ $0.log.has(last) }), self.clock.now < deadline {
            try await pass(self.clock, until: self.clock.now + every)
        }
        try await pass(self.clock, until: self.clock.now + Scene.settlePause)
        try self.judge(clients, books, allowsGaps: allowsGaps)
    }

    private func judge(_ clients: [any DrillClient], _ books: Publisher.Books, allowsGaps: Bool) throws {
        var total = (lost: 0, told: 0, doubled: 0, outOfOrder: 0, invented: 0, wrongGaps: 0)
        var published = 0
        for client in clients {
            if let failure = client.log.failure { throw DrillError("a client: \(failure)") }
            // One that never got as far has lost all of them.
            let ready = client.log.first { $0 == .ready } ?? 0
            let expected = books.expected(since: ready)
            let ledger = Ledger(
                client.log.deliveries, accepted: expected,
                uncertain: books.uncertain.union(books.accepted.subtracting(expected)))
            published = max(published, expected.count)
            total.lost += ledger.lost.count
            total.told += ledger.told.count
            total.doubled += ledger.doubled
            total.outOfOrder += ledger.outOfOrder
            total.invented += ledger.invented
            total.wrongGaps += ledger.wrongGaps
        }
        let (sum, count) = (total, published)
        self.change { result in
            (result.published, result.lost, result.told) = (count, sum.lost, sum.told)
            (result.doubled, result.outOfOrder) = (sum.doubled, sum.outOfOrder)
        }
        self.check(.atMost(0, "events lost without a word", total.lost))
        if !allowsGaps { self.check(.atMost(0, "events told as a gap", total.told)) }
        self.check(.atMost(0, "events doubled", total.doubled))
        self.check(.atMost(0, "events out of order", total.outOfOrder))
        self.check(.atMost(0, "events that nobody published", total.invented))
        self.check(.atMost(0, "gaps of a wrong size", total.wrongGaps))
    }
}
