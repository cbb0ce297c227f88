import Foundation
import HoldfastClient
import HoldfastFaults
import NIOCore

/// F13: one that reads 1 KB/s.
extension Drill {
    static let slow: [Drill] = [
        Drill(
            "f13", "slow consumer among fast ones",
            does:
                "One client reads 1 KB/s of a topic with up to 600 KB/s, beside 1,000 of another topic. The gateway's "
                + "memory grows by 64 MiB at most, the others get every event and are never silent for 2 s longer "
                + "than the events themselves, the slow one is told (4008), and has every event or a gap.",
            needs: [.ownGateway, .swiftClient], isAlone: true, run: Self.slowConsumer)
    ]

    private static let memoryLimit = 64.0
    /// Of the topic that only the slow one has: bytes of an event, and events per second.
    private static let fatBytes = 3000
    private static let fatRate = 100.0
    /// That publish it, each at that rate.
    private static let publishers = 2
    /// Until the buffers of two kernels and a proxy are full, in seconds.
    private static let longest = 120.0

    private static func slowConsumer(_ stage: Stage) async throws {
        let gateway = try await stage.gateway()
        let target = Target(gateway)
        let proxy = try await stage.proxy(to: target)
        let crowd = try await Crowd.gather(stage, port: gateway.port)
        let fat = stage.subscription + "_fat"
        let slow = SwiftDrillClient(log: SightingLog(clock: stage.clock), alsoSubscribed: fat)
        stage.atEnd { await slow.close() }
        try await slow.connect(url: target.url(through: proxy.port), subscription: stage.subscription)
        let publisher = try stage.publisher(to: [target.url])
        let all = Crowd(clients: crowd.clients + [slow], clock: stage.clock)
        try await all.awaitReady()
        publisher.start()
        try await all.awaitEvents(5)
        let before = try await gateway.metric("process_resident_memory_bytes")
        var faults = Faults()
        faults.bandwidthBytes = 1000
        faults.directions = .toClient
        try await proxy.apply(faults)
        stage.say("one client reads 1 KB/s")
        let fault = stage.clock.now
        let floods = (0..<Self.publishers).map { _ in Self.flood(fat, target.url, stage.clock) }
        stage.atEnd { for flood in floods { flood.cancel() } }
        var most = before
        var told: Double?
        while told == nil, stage.clock.now < fault + Self.longest {
            try await pass(stage.clock, until: stage.clock.now + 0.5)
            most = max(most, try await gateway.metric("process_resident_memory_bytes"))
            if try await gateway.metric("holdfast_slow_consumers_total") > 0 { told = stage.clock.now - fault }
        }
        for flood in floods { flood.cancel() }
        stage.check(.within(Self.longest, "slow consumer ended (4008) after", told, observed: Self.longest))
        let growth = (most - before) / 1_048_576
        stage.check(
            .holds(
                "gateway's memory grew by", growth <= Self.memoryLimit, "\(growth.tenths) MiB",
                limit: "≤ \(Self.memoryLimit.tenths) MiB"))
        stage.say("it reads as fast as it can again")
        let end = stage.clock.now
        try await proxy.apply(Faults())
        let back = try await wait(stage.clock, until: end + 30) { slow.log.first(since: end) { $0.isOpen } }
        stage.change { [told] result in
            result.noticedAfter = told
            result.backAfter = back.map { $0 - end }
            result.attempts = slow.log.times(since: fault) { $0.isAttempt }.count
        }
        stage.check(.within(30, "slow one has a line again after", back.map { $0 - end }, observed: 30))
        let silence = crowd.clients.map { $0.log.longestSilence(since: fault) }.max() ?? 0
        stage.check(.within(2 + DrillSettings.interval, "longest silence of the others", silence, observed: silence))
        try await all.awaitEvents(5)
        try await stage.settle(all.clients, publisher, allowsGaps: true)
        let others = crowd.clients.filter { $0.log.first { $0.isGap } != nil }.count
        stage.check(.atMost(0, "others told of a gap", others))
    }

    private static func flood(_ subscription: String, _ url: String, _ clock: DrillClock) -> Task<Void, any Error> {
        Task {
            let publisher = try EventPublisher(url: url)
            let data = ByteBuffer(string: "\"\(String(repeating: "x", count: Self.fatBytes))\"")
            var next = clock.now
            while !Task.isCancelled {
                // One that is refused is missed by nobody.
                _ = try? await publisher.publish(data, to: subscription, idempotencyKey: nil)
                next = max(next + 1 / Self.fatRate, clock.now - 1)
                try await pass(clock, until: next)
            }
        }
    }
}
