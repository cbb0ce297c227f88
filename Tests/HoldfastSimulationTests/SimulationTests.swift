import HoldfastSimulation
import TestSupport
import Testing

/// Worlds of a few seeds. Many more are run by `holdfast simulate` (scripts/test), which this cannot replace.
@Suite("Simulation", .serialized)
struct SimulationTests {
    @Test func promisesAreKept() async throws {
        let tally = try await onOwnThread { try Campaign(firstSeed: 1, runs: 5, minutes: 1).run() }
        #expect(tally.runs == 5)
        #expect(tally.failures == [])
        #expect(tally.messages > 100 && tally.connects > 10, "something has to happen: \(tally)")
    }

    @Test func aSeedIsARun() async throws {
        let traces = try await onOwnThread {
            try (0..<2).map { _ in
                let trace = Trace()
                _ = try Plan.run(Plan(seed: 9, minutes: 1), trace: trace)
                return trace.lines
            }
        }
        #expect(traces[0] == traces[1])
        #expect(traces[0].count > 50)
    }

    @Test func seedsAreUnlike() {
        let plans = (1...50).map { Plan(seed: $0) }
        #expect(Set(plans.map(\.faults.count)).count > 5)
        #expect(Set(plans.map(\.broker)).count == 2)
        let kinds = Set(plans.flatMap { $0.faults.map(\.kind) })
        #expect(kinds == Set(Fault.Kind.allCases), "each kind of fault in some of fifty plans")
    }

    /// The judge has to see what is wrong: a proxy that hides what it takes away is none of the faults, so a client that is
    /// cut off until the end, and beyond, is one that has not come back.
    @Test func aClientThatStaysAwayIsSeen() async throws {
        var plan = Plan(seed: 3, minutes: 1)
        plan.faults = []
        let kept = try await onOwnThread { [plan] in try Plan.run(plan) }
        #expect(kept.violation == nil)
        // Sessions for one client only, and two that want one.
        plan.clients = 2
        plan.nodes = 1
        plan.bounds.sessions = 1
        let broken = try await onOwnThread { [plan] in try Plan.run(plan) }
        #expect(broken.violation?.promise == .alive)
    }

    @Test func aFailingPlanIsMadeSmaller() async throws {
        var plan = Plan(seed: 5, minutes: 2)
        plan.clients = 2
        plan.nodes = 1
        plan.broker = .memory
        plan.bounds.sessions = 1
        plan.payload = 100
        let small = try await onOwnThread { [plan] in
            let violation = try #require(try Plan.run(plan).violation)
            var shrinker = Shrinker(limit: 40)
            return shrinker.shrink(plan, violation)
        }
        #expect(small.faults.isEmpty && small.payload == 0)
        #expect(small.clients == 2 && small.bounds.sessions == 1, "what it needs to fail stays")
    }
}
