import HoldfastSimulation
import TestSupport
import Testing

/// P4 (overview.md): ten thousand clients coming back do not come back together.
@Suite("Herd", .serialized)
struct HerdTests {
    private func run(_ change: (inout HerdSettings) -> Void) async throws -> HerdReport {
        var settings = HerdSettings()
        settings.clients = Self.densest
        change(&settings)
        return try await onOwnThread { [settings] in Herd.run(settings) }
    }

    private func expectPromise(_ report: HerdReport) {
        let settings = report.settings
        #expect(report.knocksPeak <= settings.knocksMax, "clients that knocked in one window of 100 ms")
        #expect(report.backMost ?? .max <= settings.backMax, "ms until 95 % are back")
        #expect(report.lost == 0)
        #expect(report.attempts >= settings.clients, "everybody has to knock once at least")
    }

    /// Long enough for the waves of the second and the third attempt, which are the highest.
    private static let outage = 5_000
    /// The most that are told to spread over no more than a second: the densest herd, of 200 in 100 ms at most.
    private static let densest = 2000

    @Test("a crash of a second")
    func crash() async throws {
        try await self.expectPromise(self.run { _ in })
    }

    @Test("an outage, connects refused")
    func refused() async throws {
        try await self.expectPromise(
            self.run {
                $0.outage = Self.outage
            })
    }

    @Test("an outage, connects unanswered")
    func unanswered() async throws {
        try await self.expectPromise(
            self.run {
                $0.event = .unanswered
                $0.outage = Self.outage
            })
    }

    @Test("a crash of a gateway that refuses whom it cannot take")
    func refusing() async throws {
        try await self.expectPromise(
            self.run {
                $0.overload = .refuse
            })
    }

    @Test("any size of gateway", arguments: [1, 200])
    func sizes(clients: Int) async throws {
        try await self.expectPromise(
            self.run {
                $0.clients = clients
                $0.outage = 5000
            })
    }

    @Test("a drain: everybody moves by the one attempt that it was told to make")
    func drain() async throws {
        let report = try await self.run {
            $0.event = .drain
            $0.clients = 1000
        }
        #expect(report.attempts == report.settings.clients)
        #expect(report.lost == 0)
        #expect(report.isSoon)
    }

    /// Without these the tests above would prove nothing: the same model sees a herd where there is one.
    @Test("a herd without the spread is seen")
    func withoutSpread() async throws {
        let report = try await self.run {
            $0.clients = 5000
            $0.tellsSpread = false
        }
        #expect(!report.isSpread)
        #expect(report.knocksPeak * 2 > 3 * report.settings.knocksMax)
    }

    @Test("lockstep is seen: Phoenix's table, everybody in one window")
    func lockstep() async throws {
        var settings = HerdSettings()
        settings.clients = Self.densest
        settings.outage = Self.outage
        let peer = try #require(PeerBackoff.all.first { $0.name == "Phoenix" })
        let report = try await onOwnThread { [settings] in Herd.run(settings, as: peer) }
        #expect(report.knocksPeak == settings.clients)
        #expect(!report.keepsPromise)
    }

    @Test("the same seed makes the same run, another seed another one")
    func seeds() async throws {
        let first = try await self.run { $0.clients = 500 }
        let again = try await self.run { $0.clients = 500 }
        #expect(first.series == again.series)
        let other = try await self.run {
            $0.clients = 500
            $0.seed = 2
        }
        #expect(first.series != other.series)
    }
}
