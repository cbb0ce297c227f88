import Testing

@testable import HoldfastCore

/// Random sets, moves, cancels and pauses against a plain list of deadlines.
@Suite struct TimerWheelModelTests {
    private final class TestTimer: WheelTimer {
        var wheelTick: Int64 = -1
        var deadline: Int64?
    }

    private struct Generator: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            self.state = self.state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (self.state ^ (self.state >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        }
    }

    /// `reach`: how many ticks away deadlines may be. The wheel has 16 slots.
    @Test(arguments: [15, 16, 17, 1000], 0..<40 as Range<UInt64>)
    func nothingIsLateOrLost(_ reach: Int64, _ seed: UInt64) {
        var generator = Generator(state: seed)
        var wheel = TimerWheel<TestTimer>(tick: Span(microseconds: 10), slots: 16, now: Instant(microseconds: 0))
        let timers = (0..<12).map { _ in TestTimer() }
        var now: Int64 = 0
        var fired = 0
        for _ in 0..<1500 {
            let timer = timers[Int.random(in: 0..<timers.count, using: &generator)]
            switch Int.random(in: 0..<8, using: &generator) {
            case 0...2:
                let deadline = now + Int64.random(in: 10...(reach * 10), using: &generator)
                timer.deadline = deadline
                wheel.set(timer, at: Instant(microseconds: deadline))
            case 3:
                timer.deadline = nil
                wheel.cancel(timer)
            default:
                now += Int64.random(in: 0...20, using: &generator)
                if Int.random(in: 0..<50, using: &generator) == 0 {
                    now += Int64.random(in: 100...400, using: &generator)
                }
                for timer in wheel.advance(to: Instant(microseconds: now)) {
                    guard let deadline = timer.deadline else {
                        Issue.record("a cancelled timer fired")
                        return
                    }
                    if deadline < now + 10 {
                        timer.deadline = nil
                        fired += 1
                    } else {
                        wheel.set(timer, at: Instant(microseconds: deadline))
                    }
                }
                // What the sweep should have brought has been brought.
                if let late = timers.compactMap(\.deadline).filter({ $0 <= now / 10 * 10 }).min() {
                    Issue.record("\(now - late) µs late")
                    return
                }
            }
        }
        // With far deadlines most timers are moved before they fire.
        #expect(fired > (reach > 100 ? 0 : 50))
    }
}
