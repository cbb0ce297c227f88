import Foundation
import HoldfastFaults

/// F15 and F17: the laptop's lid, and the tab behind others.
extension Drill {
    static let sleeps: [Drill] = [
        Drill(
            "f15", "laptop sleeps and wakes",
            does: "The client's process is stopped (SIGSTOP) for 90 s, with --long for 10 min, and woken. It must "
                + "ask for its line within 1 s, and have every event or be told of a gap.",
            run: Self.sleep),
        Drill(
            "f17", "hidden tab, throttled timers",
            does: "The page is put behind another one for 90 s, with --long for 15 min. The line is kept, no "
                + "attempt is made, exactly once.",
            needs: [.page], run: Self.hidden),
    ]

    private static func sleep(_ stage: Stage) async throws {
        let scene = try await Scene.make(stage, clientInOwnProcess: true)
        try await scene.begin()
        stage.say("the client sleeps")
        let fault = stage.clock.now
        scene.client.signal(SIGSTOP)
        try await pass(stage.clock, until: fault + stage.settings.pace.sleep)
        let before = await Said(scene.proxy)
        let count = scene.log.times(since: fault) { $0.isMessage }.count
        guard before.total > 0, count < 10 else {
            throw DrillError("the client's process was not stopped: \(count) events came")
        }
        stage.say("the client is woken")
        let end = stage.clock.now
        scene.client.signal(SIGCONT)
        let asked = try await wait(stage.clock, until: end + 20) { () -> Double? in
            await Said(scene.proxy) == before ? nil : stage.clock.now - end
        }
        try await scene.back(since: end, within: 40)
        stage.change { $0.noticedAfter = asked }
        stage.check(.within(1, "asks after waking", asked, observed: 20))
        try await scene.awaitEvents(5, within: Scene.readyDeadline)
        try await scene.settle(attemptsSince: end, allowsGaps: true)
    }

    /// What a client has said, as the proxy sees it.
    private struct Said: Equatable {
        let bytes: Int
        let connections: Int

        init(_ proxy: FaultProxy) async {
            let statistics = await proxy.statistics
            self.bytes = statistics.bytesToServer
            self.connections = statistics.connectionsTotal
        }

        var total: Int { self.bytes + self.connections }
    }

    private static func hidden(_ stage: Stage) async throws {
        let scene = try await Scene.make(stage)
        try await scene.begin()
        scene.client.hide()
        let hidden = try await wait(stage.clock, until: stage.clock.now + 10) { scene.log.first { $0 == .hidden } }
        guard let hidden else { throw DrillError.notRun("the client did not say that its page is hidden in 10 s") }
        stage.say("the page is hidden")
        try await pass(stage.clock, until: hidden + stage.settings.pace.watch)
        let attempts = scene.log.times(since: hidden) { $0.isAttempt }.count
        let losses = scene.log.times(since: hidden) { $0 == .lost }.count
        stage.check(.atMost(0, "attempts while hidden", attempts))
        stage.check(.atMost(0, "lines given up while hidden", losses))
        try await scene.settle(attemptsSince: hidden)
    }
}
