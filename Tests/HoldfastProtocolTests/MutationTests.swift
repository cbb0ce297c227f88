import Foundation
import Testing

@testable import HoldfastProtocol

/// Seeded mutations of what clients send. `HOLDFAST_FUZZ_SECONDS` (default 5) is shared by the two runs;
/// `HOLDFAST_FUZZ_SEED` repeats a run.
@Suite(.serialized) struct MutationTests {
    private static let seconds = ProcessInfo.processInfo.environment["HOLDFAST_FUZZ_SECONDS"].flatMap(Double.init) ?? 5
    private static let seed =
        ProcessInfo.processInfo.environment["HOLDFAST_FUZZ_SEED"].flatMap { UInt64($0) }
        ?? UInt64.random(in: 0...UInt64.max)
    /// Fewer cases would mean that the run has not run.
    private static let leastCases = 500

    /// Runs for a time, and at least ``leastCases``.
    private func forAWhile(_ body: () throws -> Void) rethrows {
        let end = ContinuousClock.now + .seconds(Self.seconds / 2)
        var cases = 0
        while cases < Self.leastCases || ContinuousClock.now < end {
            try body()
            cases += 1
        }
    }

    @Test func frames() throws {
        print("frame mutations: HOLDFAST_FUZZ_SEED=\(Self.seed)")
        var run = FrameMutation(seed: Self.seed)
        try self.forAWhile { try run.run(FrameMutation.limited) }
        print("frame mutations: \(run.cases) cases, \(run.refused) refused, \(run.messages) messages")
        #expect(run.cases >= Self.leastCases)
        // Both sides of the parser were seen.
        #expect(run.refused > run.cases / 20)
        #expect(run.messages > run.cases)
    }

    @Test func events() throws {
        print("event mutations: HOLDFAST_FUZZ_SEED=\(Self.seed)")
        var run = EventMutation(seed: Self.seed)
        try self.forAWhile { try run.run() }
        print(
            "event mutations: \(run.cases) cases, \(run.refused) refused, Foundation asked about \(run.compared), took \(run.comparedAccepted)"
        )
        #expect(run.cases >= Self.leastCases)
        #expect(run.refused > run.cases / 20 && run.refused < run.cases)
        #expect(run.compared > run.comparedAccepted && run.comparedAccepted > 0)
    }
}
