import NIOCore

/// F10 and F11: a thousand clients, and their gateway goes.
extension Drill {
    static let crowds: [Drill] = [
        Drill(
            "f10", "gateway killed and restarted, many clients",
            does: "kill -9 with 1,000 clients, and 5 s later a restart on the same port. At most 200 attempts (or 2 "
                + "% of the clients) in any 100 ms, 95 % back in 10 s, and a gap told to each, since histories are "
                + "in the gateway's memory.",
            needs: [.ownGateway], isAlone: true, run: Self.killed),
        Drill(
            "f11", "gateway drained, a second one is up",
            does: "SIGTERM to one of two gateways behind a balancer and on one Redis, with 1,000 clients. Nobody "
                + "without events for more than 2 s, and the moves spread over drain.window (5 s, the default "
                + "outside of --dev).",
            needs: [.ownGateway, .redis], isAlone: true, run: Self.drained),
    ]

    /// How long the gateway is away, in seconds.
    private static let downTime = 5.0

    private static func killed(_ stage: Stage) async throws {
        let gateway = try await stage.gateway()
        let publisher = try stage.publisher(to: [Target(gateway).url])
        let crowd = try await Crowd.gather(stage, port: gateway.port)
        publisher.start()
        try await crowd.awaitEvents(5)
        stage.say("the gateway is killed")
        let fault = stage.clock.now
        await gateway.kill()
        try await pass(stage.clock, until: fault + Self.downTime)
        try await gateway.restart()
        let end = stage.clock.now
        stage.say("the gateway is up again")
        let back = try await crowd.shareBack(0.95, since: end, within: 40)
        stage.change {
            $0.noticedAfter = crowd.slowest(since: fault) { $0 == .lost }
            $0.backAfter = back
            $0.attempts = crowd.attempts(since: fault).count
        }
        try await crowd.awaitEvents(5)
        let peak = crowd.peak(since: fault)
        stage.check(.atMost(crowd.peakLimit, "clients that knock in any 100 ms", peak))
        stage.check(.within(10, "95 % back after", back, observed: 40))
        try await stage.settle(crowd.clients, publisher, allowsGaps: true)
        let told = crowd.clients.filter { $0.log.first(since: fault) { $0.isGap } != nil }.count
        stage.check(.atLeast(crowd.clients.count, "clients told of a gap", told))
    }

    private static let window = 5.0

    private static func drained(_ stage: Stage) async throws {
        let redis = try await RedisProcess.start(stage, "Redis")
        let settings = [
            "HOLDFAST_DRAIN_WINDOW": "\(Self.window)", "HOLDFAST_DRAIN_DEADLINE": "10",
            "HOLDFAST_REDIS_HOST": "127.0.0.1", "HOLDFAST_REDIS_PORT": "\(redis.port)",
        ]
        let first = try await stage.gateway("the first gateway", settings)
        let second = try await stage.gateway("the second gateway", settings)
        let junction = try await Junction.start(to: first.port)
        stage.atEnd { await junction.shutdown() }
        let publisher = try stage.publisher(to: [Target(second).url])
        let crowd = try await Crowd.gather(stage, port: junction.port)
        publisher.start()
        try await crowd.awaitEvents(5)
        stage.say("the first gateway is asked to stop")
        let fault = stage.clock.now
        junction.lead(to: second.port)
        first.signal(15)
        guard try await first.ended(within: 30) else { throw DrillError("the drained gateway did not end in 30 s") }
        try await crowd.awaitEvents(5)
        let silence = crowd.clients.map { $0.log.longestSilence(since: fault) }.max() ?? 0
        let moves = crowd.attempts(since: fault)
        stage.change {
            $0.backAfter = silence
            $0.attempts = moves.count
        }
        stage.check(.within(2 + DrillSettings.interval, "longest time without an event", silence, observed: silence))
        stage.check(.atMost(crowd.peakLimit, "clients that move in any 100 ms", crowd.peak(since: fault)))
        let span = (moves.max() ?? 0) - (moves.min() ?? 0)
        if crowd.clients.count >= Self.leastForSpread {
            stage.check(
                .holds(
                    "moves spread over", span >= Self.window / 2, "\(span.tenths) s",
                    limit: "≥ \((Self.window / 2).tenths) s"))
        }
        stage.note(
            "each gateway has a history of its own, so that a gap is allowed here; events that come again are not")
        try await stage.settle(crowd.clients, publisher, allowsGaps: true)
    }

    /// Fewer may stand close together by chance.
    private static let leastForSpread = 10
}

/// Many clients of one topic.
struct Crowd: Sendable {
    let clients: [any DrillClient]
    let clock: DrillClock

    /// Seconds that all together have to subscribe.
    private static let readyDeadline = 90.0
    /// Clients that are begun at a time, so that the gathering is no herd itself.
    private static let batch = 50

    static func gather(_ stage: Stage, port: Int) async throws -> Crowd {
        let crowd = Crowd(
            clients: (0..<stage.settings.crowd).map { _ in stage.client() }, clock: stage.clock)
        let target = Target(host: "127.0.0.1", port: port, path: "/socket", url: "", gateway: nil)
        for (index, client) in crowd.clients.enumerated() {
            try await client.connect(url: target.url(through: port), subscription: stage.subscription)
            if index % Self.batch == Self.batch - 1 {
                stage.say("\(index + 1) of \(crowd.clients.count) clients")
                try await crowd.awaitReady(index + 1, until: stage.clock.now + Self.readyDeadline)
            }
        }
        try await crowd.awaitReady()
        return crowd
    }

    /// Waits until all have subscribed.
    func awaitReady() async throws {
        try await self.awaitReady(self.clients.count, until: self.clock.now + Self.readyDeadline)
    }

    private func awaitReady(_ count: Int, until deadline: Double) async throws {
        for client in self.clients.prefix(count) {
            let ready = try await wait(self.clock, until: deadline) { () -> Bool? in
                if let failure = client.log.failure { throw DrillError("a client: \(failure)") }
                return client.log.first { $0 == .ready } == nil ? nil : true
            }
            guard ready != nil else {
                throw DrillError("not all of \(self.clients.count) clients had subscribed after \(deadline.tenths) s")
            }
        }
    }

    /// Waits until each client has got so many more.
    func awaitEvents(_ count: Int) async throws {
        let since = self.clock.now
        for client in self.clients {
            let came = try await wait(self.clock, until: since + 30) {
                client.log.times(since: since) { $0.isMessage }.count >= count ? true : nil
            }
            guard came != nil else { throw DrillError("a client got fewer than \(count) events in 30 s") }
        }
    }

    /// Seconds until that share of the clients had an event since then. - Returns: `nil` if it never was.
    func shareBack(_ share: Double, since end: Double, within seconds: Double) async throws -> Double? {
        let wanted = Int((share * Double(self.clients.count)).rounded(.up))
        while self.clock.now < end + seconds {
            let times = self.clients.compactMap { $0.log.first(since: end) { $0.isMessage } }.sorted()
            if times.count >= wanted { return times[wanted - 1] - end }
            try await pass(self.clock, until: self.clock.now + 0.1)
        }
        return nil
    }

    /// Seconds until the last client had seen it. - Returns: `nil` if one never did.
    func slowest(since fault: Double, where isWanted: (Sighting) -> Bool) -> Double? {
        let times = self.clients.compactMap { $0.log.first(since: fault, where: isWanted) }
        return times.count == self.clients.count ? times.max().map { $0 - fault } : nil
    }

    func attempts(since: Double) -> [Double] {
        self.clients.flatMap { $0.log.times(since: since) { $0.isAttempt } }.sorted()
    }

    /// P4: 2 % of the clients, or 200 if that is more.
    var peakLimit: Int { max(200, self.clients.count / 50) }

    /// Most clients that knock in any 100 ms. A WebSocket and the fallback beside it are one attempt (client.md), so that
    /// a client counts once.
    func peak(since: Double) -> Int {
        let knocks = self.clients.enumerated()
            .flatMap { number, client in
                client.log.times(since: since) { $0.isAttempt }.map { (at: $0, client: number) }
            }
            .sorted { $0.at < $1.at }
        var peak = 0
        var start = 0
        var within: [Int: Int] = [:]
        for knock in knocks {
            within[knock.client, default: 0] += 1
            while knock.at - knocks[start].at >= 0.1 {
                let gone = knocks[start].client
                within[gone] = within[gone].flatMap { $0 > 1 ? $0 - 1 : nil }
                start += 1
            }
            peak = max(peak, within.count)
        }
        return peak
    }
}

extension SightingLog {
    /// Longest time between two events from then on, in seconds.
    func longestSilence(since: Double, until: Double = .infinity) -> Double {
        let times = self.times(since: since, until: until) { $0.isMessage }
        return zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? 0
    }
}
