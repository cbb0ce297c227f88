import HoldfastFaults
import HoldfastProtocol
import NIOCore

/// F1 to F5: the cable.
extension Drill {
    static let cuts: [Drill] = [
        Drill(
            "f1", "cable pulled, both directions",
            does: "Cuts both directions without FIN or RST, for 60 s. The client must suspect the line in 6 s, the "
                + "gateway let go in 30 s, and events be back 2 s after the restore, exactly once.",
            run: { try await Self.cut($0, .both) }),
        Drill(
            "f2", "cable pulled for 5 s",
            does: "The same for 5 s, and what was sent meanwhile arrives late, as TCP repeats it. The connection "
                + "may survive. Exactly once.",
            run: Self.shortCut),
        Drill(
            "f3", "only server → client is dropped",
            does: "As f1; the client's own words still get through.",
            run: { try await Self.cut($0, .toClient) }),
        Drill(
            "f4", "only client → server is dropped",
            does: "As f1; events still come, until the gateway gives up.",
            run: { try await Self.cut($0, .toServer) }),
        Drill(
            "f5", "the server closes in a cut, its FIN is lost",
            does: "The answered call: the gateway's timeout closes the line during a cut, the client never hears of "
                + "it, and the event that matters is published then. As f1, and the event must be there on return.",
            run: Self.answeredCall),
    ]

    private static let suspectLimit = 6.0
    private static let letGoLimit = 30.0
    /// How much longer than the limit is waited, so that a figure can be shown for what is too late.
    private static let grace = 5.0

    private static func cut(_ stage: Stage, _ directions: Directions) async throws {
        let scene = try await Scene.make(stage)
        try await scene.begin()
        let line = try await GatewayLine.current(of: scene)
        stage.say("the line is cut")
        let fault = stage.clock.now
        await scene.proxy.cut(directions)
        async let letGo = line?.letGo(since: fault, within: Self.letGoLimit + Self.grace)
        let end = fault + stage.settings.pace.cut
        let noticed = try await scene.notice(since: fault, until: end)
        try await pass(stage.clock, until: end)
        if directions.contains(.toClient) {
            stage.check(.within(Self.suspectLimit, "noticed after", noticed, observed: end - fault))
        } else {
            // What still comes counts as life (client.md): the client has to notice when it has heard nothing.
            let silence = scene.log.unnoticedSilence(since: fault, until: noticed.map { fault + $0 } ?? end)
            stage.check(.within(Self.suspectLimit, "silence before it noticed", silence, observed: silence))
        }
        try await scene.restore(since: fault)
        if line != nil {
            stage.check(
                .within(
                    Self.letGoLimit, "server lets go after", try await letGo, observed: Self.letGoLimit + Self.grace))
        }
        try await scene.settle(attemptsSince: fault)
    }

    private static func shortCut(_ stage: Stage) async throws {
        let scene = try await Scene.make(stage)
        try await scene.begin()
        stage.say("the line is cut")
        let fault = stage.clock.now
        await scene.proxy.cut(.both, packets: .delayed)
        try await scene.notice(since: fault, until: fault + 5)
        try await pass(stage.clock, until: fault + 5)
        await scene.proxy.restore()
        if stage.settings.wakes { scene.client.wake() }
        let end = stage.clock.now
        let back = try await scene.back(since: end, within: 30)
        stage.check(.within(stage.settings.backLimit, "back after", back, observed: 30))
        try await scene.settle(attemptsSince: fault)
    }

    private static func answeredCall(_ stage: Stage) async throws {
        let scene = try await Scene.make(stage)
        try await scene.begin()
        let line = try await GatewayLine.current(of: scene)
        stage.say("the line is cut")
        let fault = stage.clock.now
        await scene.proxy.cut(.both)
        let longest = stage.settings.pace.cutUntilLetGo
        async let noticed = scene.notice(since: fault, until: fault + longest)
        let letGo = try await scene.serverCloses(line, since: fault, within: longest)
        if let line {
            stage.check(.within(Self.letGoLimit, "server lets go after", letGo, observed: longest))
            stage.note("the gateway's FIN of line \(line.remote) was lost in the cut")
        }
        // The call is answered now: events go on while the gateway has nobody to give them to.
        try await pass(stage.clock, until: stage.clock.now + 2)
        stage.check(.within(Self.suspectLimit, "noticed after", try await noticed, observed: longest))
        try await scene.restore(since: fault)
        try await scene.settle(attemptsSince: fault)
    }
}

extension Scene {
    fileprivate func restore(since fault: Double) async throws {
        let settings = self.stage.settings
        self.stage.say("the line is whole again")
        await self.proxy.restore()
        let end = self.clock.now
        if settings.wakes { self.client.wake() }
        let observed = settings.backLimit + settings.pace.grace
        let back = try await self.back(since: end, within: observed)
        self.stage.check(.within(settings.backLimit, "back after", back, observed: observed))
    }

    /// Waits until the server has closed the line that is cut.
    /// - Returns: seconds since the fault.
    /// - Throws: ``DrillError`` if it does not, since then the fault did not happen.
    fileprivate func serverCloses(_ line: GatewayLine?, since fault: Double, within seconds: Double) async throws
        -> Double
    {
        let closed: Double?
        if let line {
            closed = try await line.letGo(since: fault, within: seconds)
        } else {
            // Of a gateway that cannot be asked: its FIN is lost at the proxy, which counts it.
            try await pass(self.clock, until: fault + seconds)
            closed = await self.proxy.statistics.endsSwallowed > 0 ? seconds : nil
        }
        guard let closed, await self.proxy.statistics.endsSwallowed > 0 else {
            throw DrillError("nobody closed the line in a cut of \(seconds.tenths) s, so that no FIN was lost")
        }
        return closed
    }
}

/// The line of the only client, as a gateway of our own knows it.
struct GatewayLine: Sendable {
    let gateway: GatewayProcess
    let clock: DrillClock
    /// Address and port of the other end, which no other line has.
    let remote: String

    /// - Returns: `nil` where the gateway cannot be asked.
    static func current(of scene: Scene) async throws -> GatewayLine? {
        guard let gateway = scene.target.gateway else {
            scene.stage.note("not judged: when the server lets go, since --url's cannot be asked")
            return nil
        }
        guard let remote = try await Self.remotes(of: gateway).first else {
            throw DrillError("the gateway knows no line, though events come")
        }
        return GatewayLine(gateway: gateway, clock: scene.clock, remote: remote)
    }

    private static func remotes(of gateway: GatewayProcess) async throws -> [String] {
        let answer = try await gateway.get("/api/sessions").body
        guard let sessions = try JSONObject(parsing: answer)["sessions"]?.elements(limit: 10_000) else {
            throw DrillError(
                "GET /api/sessions of \(gateway.name) lists no sessions: \(String(buffer: answer).prefix(200))")
        }
        return sessions.compactMap { session in
            guard let session = try? JSONObject(parsing: session.raw), session["state"]?.string == "attached" else {
                return nil
            }
            return session["remote"]?.string
        }
    }

    /// Waits until the gateway has let go of it. - Returns: seconds since the fault; `nil` if it has not.
    func letGo(since fault: Double, within seconds: Double) async throws -> Double? {
        // Every tenth of a second is enough for figures with one digit.
        while self.clock.now < fault + seconds {
            if try await !Self.remotes(of: self.gateway).contains(self.remote) { return self.clock.now - fault }
            try await pass(self.clock, until: self.clock.now + 0.1)
        }
        return nil
    }
}

extension SightingLog {
    /// Longest time without an event, up to `end`, in seconds.
    func unnoticedSilence(since fault: Double, until end: Double) -> Double {
        let times = [fault] + self.times(since: fault, until: end) { $0.isMessage } + [end]
        return zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? 0
    }
}
