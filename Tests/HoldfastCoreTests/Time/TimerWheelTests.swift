import Testing

@testable import HoldfastCore

/// Virtual time only: the wheel is told what time it is.
@Suite struct TimerWheelTests {
    final class TestTimer: WheelTimer {
        var wheelTick: Int64 = -1
        let name: Int
        var deadline: Instant = Instant(microseconds: 0)
        init(_ name: Int = 0) { self.name = name }
    }

    private static let tick = Span.milliseconds(100)

    private static func at(_ milliseconds: Double) -> Instant { Instant(microseconds: 0) + .milliseconds(milliseconds) }

    private func wheel(slots: Int = 8, now: Double = 0) -> TimerWheel<TestTimer> {
        TimerWheel(tick: Self.tick, slots: slots, now: Self.at(now))
    }

    /// Sweeps every tick, puts back those whose time has not come, as the owner does, and tells when the timer came due.
    private func due(_ timer: TestTimer, in wheel: inout TimerWheel<TestTimer>, from: Double, to: Double) -> Double? {
        var now = from
        while now <= to {
            for timer in wheel.advance(to: Self.at(now)) {
                if timer.deadline < Self.at(now) + Self.tick { return now }
                wheel.set(timer, at: timer.deadline)
            }
            now += 100
        }
        return nil
    }

    /// Any deadline a tick or more away: never late, at most one tick early, within the wheel, at its length and far beyond.
    @Test(
        arguments: [
            100, 101, 150, 199, 200, 250, 699, 700, 750, 799, 800, 801, 850, 900, 1600, 1601, 1650, 5050, 100_049,
        ], [0, 50, 99, 12_345])
    func neverLateAndAtMostOneTickEarly(_ delay: Double, _ start: Double) throws {
        var wheel = self.wheel(now: start)
        let timer = TestTimer()
        timer.deadline = Self.at(start + delay)
        wheel.set(timer, at: timer.deadline)
        let sweep = (start / 100).rounded(.down) * 100
        let fired = try #require(self.due(timer, in: &wheel, from: sweep, to: start + delay + 200))
        #expect(fired <= start + delay)
        #expect(fired > start + delay - 100)
        #expect(wheel.count == 0)
    }

    /// A moment that has passed, or passes within this tick, is due with the next sweep.
    @Test(arguments: [-5000, -1, 0, 1, 99])
    func nearerThanATick(_ delay: Double) {
        var wheel = self.wheel(now: 10_000)
        let timer = TestTimer()
        timer.deadline = Self.at(10_000 + delay)
        wheel.set(timer, at: timer.deadline)
        #expect(wheel.advance(to: Self.at(10_099)).isEmpty == true)
        #expect(wheel.advance(to: Self.at(10_100)).count == 1)
    }

    @Test func firesOnce() {
        var wheel = self.wheel()
        let timer = TestTimer()
        wheel.set(timer, at: Self.at(300))
        wheel.set(timer, at: Self.at(300))
        #expect(wheel.advance(to: Self.at(300)).count == 1)
        #expect(timer.wheelTick == -1)
        #expect(wheel.advance(to: Self.at(20_000)).isEmpty == true)
    }

    @Test func timeStandingStillOrGoingBack() {
        var wheel = self.wheel(now: 1000)
        let timer = TestTimer()
        wheel.set(timer, at: Self.at(1100))
        #expect(wheel.advance(to: Self.at(1000)).isEmpty == true)
        #expect(wheel.advance(to: Self.at(0)).isEmpty == true)
        #expect(wheel.advance(to: Self.at(1100)).count == 1)
    }

    @Test func cancelled() {
        var wheel = self.wheel()
        let timer = TestTimer()
        wheel.set(timer, at: Self.at(300))
        wheel.cancel(timer)
        #expect(wheel.advance(to: Self.at(10_000)).isEmpty == true)
        #expect(wheel.count == 0)
        timer.deadline = Self.at(10_300)
        wheel.set(timer, at: timer.deadline)
        #expect(self.due(timer, in: &wheel, from: 10_000, to: 11_000) == 10_300)
    }

    @Test func movedEarlier() {
        var wheel = self.wheel()
        let timer = TestTimer()
        wheel.set(timer, at: Self.at(700))
        timer.deadline = Self.at(300)
        wheel.set(timer, at: timer.deadline)
        #expect(self.due(timer, in: &wheel, from: 0, to: 600) == 300)
        #expect(self.due(timer, in: &wheel, from: 700, to: 3000) == nil)
    }

    /// Both moments lie beyond the wheel, whose 8 slots are 800 ms.
    @Test func movedEarlierFarAway() {
        var wheel = self.wheel()
        let timer = TestTimer()
        wheel.set(timer, at: Self.at(5000))
        timer.deadline = Self.at(1000)
        wheel.set(timer, at: timer.deadline)
        let fired = self.due(timer, in: &wheel, from: 0, to: 10_000)
        #expect(fired == 1000)
    }

    /// A stale entry of a far deadline lies in the very slot that the timer is set to later.
    @Test func aStaleEntryDoesNotSpeakForANewOne() {
        var wheel = self.wheel()
        let timer = TestTimer()
        wheel.set(timer, at: Self.at(5000))
        wheel.cancel(timer)
        timer.deadline = Self.at(800)
        wheel.set(timer, at: timer.deadline)
        let fired = self.due(timer, in: &wheel, from: 0, to: 10_000)
        #expect(fired == 800)
    }

    @Test func movedLater() {
        var wheel = self.wheel()
        let timer = TestTimer()
        wheel.set(timer, at: Self.at(300))
        timer.deadline = Self.at(700)
        wheel.set(timer, at: timer.deadline)
        #expect(wheel.count == 1)
        #expect(self.due(timer, in: &wheel, from: 0, to: 2000) == 700)
    }

    /// A loop that was held up longer than the wheel is long still sees every timer, once.
    @Test(arguments: [800, 801, 5000, 1_000_000])
    func longPause(_ pause: Double) {
        var wheel = self.wheel()
        let timers = (1...30).map { TestTimer($0) }
        for timer in timers { wheel.set(timer, at: Self.at(Double(timer.name) * 100)) }
        var fired = wheel.advance(to: Self.at(pause)).map(\.name)
        fired += wheel.advance(to: Self.at(pause + 3000)).map(\.name)
        fired += wheel.advance(to: Self.at(pause + 6000)).map(\.name)
        #expect(fired.sorted() == Array(1...30))
        #expect(wheel.count == 0)
    }
}
