import HoldfastFaults

/// F6 to F9 and F14: proxies that mean well, and a bad line.
extension Drill {
    static let proxies: [Drill] =
        Self.refusals.map { kind in
            Drill(
                "f6-\(kind.word)", "upgrade \(kind.says)",
                does: "A proxy does not let WebSockets through: the upgrade is \(kind.says). Events in 3 s, "
                    + "at most 2 WebSocket attempts, no request that waits for events is cut short. Watched "
                    + "for 90 s, with --long for the 15 min of the budget.",
                run: { try await Self.standing($0, kind.faults, eventsWithin: 3) { $0.upgradesRefused } })
        }
        + Self.silences.map { kind in
            Drill(
                "f7-\(kind.word)", "upgrade passes, then \(kind.says)",
                does: "A proxy accepts the upgrade, and then carries \(kind.says). Events in 10 s over the "
                    + "fallback, at most 2 WebSocket attempts, no request that waits for events is cut short.",
                run: { try await Self.standing($0, kind.faults, eventsWithin: 10) { $0.upgradesPassed } })
        } + [
            Drill(
                "f8", "responses are buffered",
                does: "A proxy lets no WebSocket through, and keeps answers until they end: the event stream "
                    + "stalls. Long poll in 5 s.",
                run: Self.buffered),
            Drill(
                "f9-idle", "idle connections closed after 10 s",
                does: "A proxy closes what was silent for 10 s, and events come in bursts with 14 s between "
                    + "them. Nothing is lost, and the session stays on its WebSocket.",
                run: Self.idle),
            Drill(
                "f9-age", "every connection closed after 60 s",
                does: "A proxy closes each connection when it is 60 s old. Nothing is lost.",
                run: Self.aged),
            Drill(
                "f14", "300 ms ± 100 ms, stalls as of lost packets",
                does: "Everything takes 300 ± 100 ms, and every few seconds the line stalls for half a "
                    + "second, which is what TCP makes of a lost packet. No line is dropped, at most one race "
                    + "in a minute, exactly once.",
                run: Self.badLine),
        ]

    private struct Kind {
        let word: String
        let says: String
        let faults: Faults

        init(_ word: String, _ says: String, _ upgrades: UpgradeFault) {
            self.word = word
            self.says = says
            self.faults = Faults(upgrades: upgrades)
        }
    }

    private static let refusals =
        [200, 400, 404, 426, 501, 502].map { Kind("\($0)", "answered \($0)", .answer(status: $0)) }
        + [Kind("hang", "never answered", .hang), Kind("reset", "answered with a reset", .reset)]

    private static let silences = [
        Kind("silent", "nothing", .silent),
        Kind("to-server", "only what the client says", .onlyToServer),
        Kind("to-client", "only what the server says", .onlyToClient),
    ]

    /// Useless WebSocket attempts in 15 min (client.md, rule 5).
    private static let budget = 2

    private static func standing(
        _ stage: Stage, _ faults: Faults, eventsWithin limit: Double,
        attempts: @escaping @Sendable (FaultProxy.Statistics) -> Int
    ) async throws {
        let scene = try await Scene.make(stage)
        try await scene.proxy.apply(faults)
        let begun = try await scene.beginOnBadLine(eventsWithin: limit)
        let flowing = stage.clock.now
        stage.say("watching")
        try await pass(stage.clock, until: begun + stage.settings.pace.watch)
        let tried = attempts(await scene.proxy.statistics)
        guard tried > 0 || scene.log.transport == "poll" || scene.log.transport == "stream" else {
            throw DrillError("the client never tried a WebSocket, so the fault did not happen")
        }
        stage.check(.atMost(Self.budget, "WebSocket attempts in \(stage.settings.pace.watch.tenths) s", tried))
        scene.checkUndisturbed(since: flowing)
        try await scene.settle(attemptsSince: begun)
        stage.change { $0.attempts = tried }
    }

    private static func buffered(_ stage: Stage) async throws {
        let scene = try await Scene.make(stage)
        var faults = Faults(upgrades: .answer(status: 400))
        faults.bufferBytes = 64 * 1024
        try await scene.proxy.apply(faults)
        let begun = try await scene.beginOnBadLine(eventsWithin: 5)
        let flowing = stage.clock.now
        stage.say("watching")
        try await pass(stage.clock, until: begun + stage.settings.pace.watch)
        if let transport = scene.log.transport {
            stage.check(.holds("transport", transport == "poll", transport, limit: "poll"))
        }
        scene.checkUndisturbed(since: flowing)
        try await scene.settle(attemptsSince: begun)
    }

    private static let idleMs = 10_000
    private static let burst = 2.0
    private static let pause = 14.0

    private static func idle(_ stage: Stage) async throws {
        let scene = try await Scene.make(stage)
        var faults = Faults()
        faults.closeIdleMs = Self.idleMs
        try await scene.proxy.apply(faults)
        try await scene.begin()
        let begun = stage.clock.now
        repeat {
            stage.say("silence")
            await scene.publisher.stop()
            try await pass(stage.clock, until: stage.clock.now + Self.pause)
            stage.say("events")
            scene.publisher.start()
            try await pass(stage.clock, until: stage.clock.now + Self.burst)
        } while stage.clock.now - begun < stage.settings.pace.watch
        if let transport = scene.log.transport {
            stage.check(.holds("transport", transport == "websocket", transport, limit: "websocket"))
        }
        try await scene.settle(attemptsSince: begun)
    }

    private static let ageMs = 60_000

    private static func aged(_ stage: Stage) async throws {
        let scene = try await Scene.make(stage)
        var faults = Faults()
        faults.closeAfterMs = Self.ageMs
        try await scene.proxy.apply(faults)
        try await scene.begin()
        let begun = stage.clock.now
        stage.say("watching")
        // Until the second line has been closed, and in a hurry the first.
        let watch = max(stage.settings.pace.watch, stage.settings.pace == .quick ? 70 : 150)
        try await pass(stage.clock, until: begun + watch)
        let closed = await scene.proxy.statistics.connectionsTotal - 1
        guard closed > 0 else { throw DrillError("no connection was closed in \(watch.tenths) s") }
        stage.note("\(closed) more connections after the first one; the session ended on \(scene.log.transport ?? "?")")
        try await scene.settle(attemptsSince: begun)
    }

    private static let stall = 0.5
    private static let stallEvery = 4.0...8.0

    private static func badLine(_ stage: Stage) async throws {
        let scene = try await Scene.make(stage)
        var faults = Faults()
        faults.latencyMs = 300
        faults.jitterMs = 100
        try await scene.proxy.apply(faults)
        try await scene.begin()
        let begun = stage.clock.now
        stage.say("watching")
        // In a hurry still long enough for a race to be seen.
        let end = begun + max(30, stage.settings.pace.watch)
        while stage.clock.now < end {
            try await pass(stage.clock, until: min(end, stage.clock.now + Double.random(in: Self.stallEvery)))
            var stalled = faults
            stalled.cut = .both
            stalled.cutPackets = .delayed
            try await scene.proxy.apply(stalled)
            try await pass(stage.clock, until: stage.clock.now + Self.stall)
            try await scene.proxy.apply(faults)
        }
        let races = scene.log.times(since: begun) { $0 == .lost }.count
        let minutes = Int(((end - begun) / 60).rounded(.up))
        stage.check(.atMost(minutes, "races in \((end - begun).tenths) s", races))
        let opened = scene.log.times(since: begun) { $0.isOpen }.count
        stage.check(.atMost(0, "lines changed", opened))
        try await scene.settle(attemptsSince: begun)
    }
}

extension Faults {
    init(upgrades: UpgradeFault) {
        self.init()
        self.upgrades = upgrades
    }
}

extension Scene {
    /// Publishes from the start: what is measured is how long it takes until events flow.
    /// - Returns: when the client began.
    func beginOnBadLine(eventsWithin limit: Double) async throws -> Double {
        self.publisher.start()
        self.stage.say("connecting")
        let asked = self.clock.now
        try await self.client.connect(
            url: self.target.url(through: self.proxy.port), subscription: self.stage.subscription)
        let observed = limit + Self.readyDeadline
        let first = try await wait(self.clock, until: asked + observed) { () -> Double? in
            if let failure = self.log.failure { throw DrillError("the client: \(failure)") }
            return self.log.first { $0.isMessage }
        }
        // How long a process or a browser takes to start is not the line's.
        let begun = self.log.first { $0.isAttempt } ?? asked
        self.stage.change { $0.backAfter = first.map { $0 - begun } }
        self.stage.check(.within(limit, "events after", first.map { $0 - begun }, observed: observed))
        return begun
    }

    /// Nothing that a client tries beside it may touch the transport that works.
    func checkUndisturbed(since flowing: Double) {
        let cuts = self.log.times(since: flowing) { $0 == .cut }.count
        let losses = self.log.times(since: flowing) { $0 == .lost }.count
        self.stage.check(.atMost(0, "requests cut short", cuts))
        self.stage.check(.atMost(0, "lines given up", losses))
    }
}
