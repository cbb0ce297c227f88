import HoldfastCore
import Testing

@testable import HoldfastBroker

/// A table whose answers are words: `+a/0` subscribes channel a on connection 0, `-a/0` unsubscribes it, `gap a` tells of a gap,
/// `1 live` answers the first subscriber.
private struct TestTable {
    static let linger = 100.0
    static let timeout = 5.0

    var table: ChannelTable<Int>
    private var nextWaiter = 1

    init(links: Int = 1, linger: Double = TestTable.linger, up: [Int]? = nil) {
        self.table = ChannelTable(links: links, linger: .seconds(linger), timeout: .seconds(Self.timeout))
        for link in up ?? Array(0..<links) { #expect(self.up(link) == []) }
    }

    private func at(_ seconds: Double) -> Instant { Instant(microseconds: 0) + .seconds(seconds) }

    private func words(_ effects: ChannelTable<Int>.Effects) -> [String] {
        effects.subscribe.flatMap { command in command.channels.sorted().map { "+\($0)/\(command.link)" } }
            + effects.unsubscribe.flatMap { command in command.channels.sorted().map { "-\($0)/\(command.link)" } }
            + effects.lost.map { "lost \($0)" } + effects.gaps.map { "gap \($0)" }
            + effects.answers.map { "\($0.waiter) \($0.answer)" }
    }

    mutating func subscribe(_ name: String = "a", shard: Int = 0, at seconds: Double = 0) -> [String] {
        defer { self.nextWaiter += 1 }
        return self.words(self.table.subscribe(name, shard: shard, now: self.at(seconds), self.nextWaiter))
    }

    mutating func unsubscribe(
        _ name: String = "a",
        shard: Int = 0,
        lingers: Bool = true,
        at seconds: Double = 0
    ) -> [String] {
        self.words(self.table.unsubscribe(name, shard: shard, lingers: lingers, now: self.at(seconds)))
    }

    mutating func acknowledged(_ name: String = "a", _ link: Int = 0) -> [String] {
        self.words(self.table.acknowledged(name, link))
    }

    mutating func refused(_ name: String = "a", _ link: Int = 0) -> [String] {
        self.words(self.table.refused(name, link))
    }

    mutating func up(_ link: Int = 0) -> [String] { self.words(self.table.up(link)) }

    mutating func down(_ link: Int = 0) { self.table.down(link) }

    mutating func expire(at seconds: Double) -> [String] { self.words(self.table.expire(now: self.at(seconds))) }

    /// One connection with channel a live, which subscriber 1 has.
    static func live(linger: Double = TestTable.linger) -> TestTable {
        var test = TestTable(linger: linger)
        #expect(test.subscribe() == ["+a/0"])
        #expect(test.acknowledged() == ["gap a", "1 live"])
        return test
    }

}

@Suite struct ChannelTableTests {
    @Test func theFirstSubscriberAsksAllConnections() {
        var test = TestTable(links: 3)
        #expect(test.subscribe() == ["+a/0", "+a/1", "+a/2"])
        #expect(test.table.count == 1)
        #expect(test.subscribe("b") == ["+b/0", "+b/1", "+b/2"])
        #expect(test.table.count == 2)
    }

    @Test func liveOnceAllHaveAcknowledged() {
        var test = TestTable(links: 3)
        _ = test.subscribe()
        #expect(test.acknowledged("a", 1) == [])
        #expect(test.acknowledged("a", 0) == [])
        #expect(test.acknowledged("b", 2) == [])
        #expect(test.acknowledged("a", 2) == ["gap a", "1 live"])
        #expect(test.subscribe() == ["2 live"])
    }

    /// In SocketShark only the first one waits (socketshark.md §17.9).
    @Test func laterSubscribersWaitToo() {
        var test = TestTable(links: 2)
        #expect(test.subscribe(shard: 0) == ["+a/0", "+a/1"])
        #expect(test.subscribe(shard: 1) == [])
        #expect(test.acknowledged("a", 0) == [])
        #expect(test.subscribe(shard: 0) == [])
        #expect(test.acknowledged("a", 1) == ["gap a", "1 live", "2 live", "3 live"])
        // Nobody is told twice.
        #expect(test.acknowledged("a", 1) == [])
    }

    @Test func oneSubscriberLeavesOthers() {
        var test = TestTable.live(linger: 0)
        #expect(test.subscribe(shard: 1) == ["2 live"])
        #expect(test.unsubscribe(shard: 0) == [])
        #expect(!test.table.isWanted("a", shard: 0))
        #expect(test.table.isWanted("a", shard: 1))
        #expect(test.unsubscribe(shard: 0) == [])
        #expect(test.unsubscribe(shard: 2) == [])
        #expect(test.unsubscribe(shard: 1) == ["-a/0"])
        #expect(test.unsubscribe(shard: 1) == [])
        #expect(test.table.count == 0)
    }

    @Test func isWanted() {
        var test = TestTable()
        #expect(!test.table.isWanted("a", shard: 0))
        _ = test.subscribe(shard: 1)
        #expect(test.table.isWanted("a", shard: 1))
        #expect(!test.table.isWanted("a", shard: 0))
        #expect(!test.table.isWanted("b", shard: 1))
        // Lingering is not wanted.
        _ = test.unsubscribe(shard: 1)
        #expect(!test.table.isWanted("a", shard: 1))
        #expect(test.table.count == 1)
        #expect(test.unsubscribe("b") == [])
    }

    @Test func isReadyWithAllConnections() {
        var test = TestTable(links: 2, up: [])
        #expect(!test.table.isReady)
        #expect(test.up(1) == [])
        #expect(!test.table.isReady)
        #expect(test.table.isUp(1))
        #expect(!test.table.isUp(0))
        #expect(test.up(0) == [])
        #expect(test.table.isReady)
        test.down(1)
        #expect(!test.table.isReady)
    }
}

@Suite struct ChannelLingerTests {
    @Test func aChannelLingers() {
        var test = TestTable.live()
        #expect(test.unsubscribe(at: 10) == [])
        #expect(test.expire(at: 109.999999) == [])
        #expect(test.table.count == 1)
        #expect(test.expire(at: 110) == ["-a/0"])
        #expect(test.table.count == 0)
        #expect(test.expire(at: 1000) == [])
    }

    /// It is live all the while: nobody waits, and nothing was missed.
    @Test func whoComesBackMeanwhileKeepsIt() {
        var test = TestTable.live()
        #expect(test.unsubscribe(at: 10) == [])
        #expect(test.subscribe(shard: 1, at: 109) == ["2 live"])
        #expect(test.expire(at: 110) == [])
        #expect(test.expire(at: 1000) == [])
        #expect(test.unsubscribe(shard: 1, at: 1000) == [])
        #expect(test.expire(at: 1099) == [])
        #expect(test.expire(at: 1100) == ["-a/0"])
    }

    /// The time runs from when the last one left.
    @Test func theTimeRunsAnew() {
        var test = TestTable.live()
        #expect(test.unsubscribe(at: 10) == [])
        #expect(test.subscribe(at: 20) == ["2 live"])
        #expect(test.unsubscribe(at: 50) == [])
        #expect(test.expire(at: 110) == [])
        #expect(test.expire(at: 149) == [])
        #expect(test.expire(at: 150) == ["-a/0"])
    }

    @Test func leavingTwiceAtTheSameTime() {
        var test = TestTable.live()
        #expect(test.unsubscribe(at: 10) == [])
        #expect(test.subscribe(at: 10) == ["2 live"])
        #expect(test.unsubscribe(at: 10) == [])
        #expect(test.expire(at: 110) == ["-a/0"])
    }

    @Test func severalGoTogether() {
        var test = TestTable(links: 2)
        for name in ["a", "b", "c"] {
            _ = test.subscribe(name)
            _ = (0..<2).map { test.acknowledged(name, $0) }
        }
        _ = test.unsubscribe("c", at: 1)
        _ = test.unsubscribe("a", at: 2)
        _ = test.unsubscribe("b", at: 3)
        #expect(test.expire(at: 102) == ["-a/0", "-a/1", "-c/0", "-c/1"])
        #expect(test.expire(at: 103) == ["-b/0", "-b/1"])
    }

    @Test func withoutLingerItGoesAtOnce() {
        var test = TestTable.live(linger: 0)
        #expect(test.unsubscribe() == ["-a/0"])
        #expect(test.table.count == 0)
        // A new one begins, with a gap in the history that may be left.
        #expect(test.subscribe() == ["+a/0"])
        #expect(test.acknowledged() == ["gap a", "2 live"])
    }

    @Test func onlyWhoMayReturnKeepsIt() {
        var test = TestTable.live()
        #expect(test.unsubscribe(lingers: false) == ["-a/0"])
        var other = TestTable.live()
        _ = other.subscribe(shard: 1)
        #expect(other.unsubscribe(shard: 0, lingers: true) == [])
        #expect(other.unsubscribe(shard: 1, lingers: false) == [])
        #expect(other.expire(at: 100) == ["-a/0"])
    }

    @Test func aChannelThatIsNotLiveYetGoesToo() {
        var test = TestTable(links: 2, linger: 0)
        _ = test.subscribe()
        _ = test.acknowledged("a", 0)
        #expect(test.unsubscribe() == ["-a/0", "-a/1", "1 timeout"])
        // Once more, in case the connection has asked for it again meanwhile.
        #expect(test.acknowledged("a", 1) == ["-a/1"])
        #expect(test.table.count == 0)
    }

    /// The acknowledgement of the first SUBSCRIBE says nothing of the second one.
    @Test func anAcknowledgementFromBeforeDoesNotCount() {
        var test = TestTable(linger: 0)
        #expect(test.subscribe() == ["+a/0"])
        #expect(test.unsubscribe() == ["-a/0", "1 timeout"])
        #expect(test.subscribe() == ["+a/0"])
        #expect(test.acknowledged() == [])
        #expect(test.subscribe() == [])
        #expect(test.acknowledged() == ["gap a", "2 live", "3 live"])
    }

    @Test func evenSeveralFromBeforeDoNotCount() {
        var test = TestTable(linger: 0)
        for number in 1...4 {
            #expect(test.subscribe() == ["+a/0"])
            #expect(test.unsubscribe() == ["-a/0", "\(number) timeout"])
        }
        #expect(test.subscribe() == ["+a/0"])
        for _ in 0..<4 { #expect(test.acknowledged() == []) }
        #expect(test.acknowledged() == ["gap a", "5 live"])
    }
}

@Suite struct ChannelReconnectTests {
    @Test func withoutAConnectionNothingIsAsked() {
        var test = TestTable(links: 2, up: [1])
        #expect(test.subscribe() == ["+a/1"])
        #expect(test.acknowledged("a", 1) == [])
        #expect(test.subscribe(shard: 1) == [])
        #expect(test.up(0) == ["+a/0"])
        #expect(test.acknowledged("a", 0) == ["gap a", "1 live", "2 live"])
    }

    @Test func everythingIsSubscribedAnew() {
        var test = TestTable()
        for (index, name) in ["a", "b", "c"].enumerated() {
            _ = test.subscribe(name)
            #expect(test.acknowledged(name) == ["gap \(name)", "\(index + 1) live"])
        }
        // One that lingers, too.
        _ = test.unsubscribe("c", at: 1)
        test.down()
        #expect(test.up() == ["+a/0", "+b/0", "+c/0"])
        #expect(test.acknowledged("b") == ["gap b"])
        #expect(test.acknowledged("c") == ["gap c"])
        #expect(test.acknowledged("a") == ["gap a"])
        #expect(test.subscribe("a", shard: 1) == ["4 live"])
        #expect(test.expire(at: 101) == ["-c/0"])
    }

    /// One gap, and only once the channel is live everywhere.
    @Test func bothConnectionsAreLost() {
        var test = TestTable(links: 2)
        _ = test.subscribe()
        _ = (0..<2).map { test.acknowledged("a", $0) }
        test.down(0)
        test.down(1)
        #expect(test.subscribe(shard: 1) == [])
        #expect(test.up(1) == ["+a/1"])
        #expect(test.acknowledged("a", 1) == [])
        #expect(test.up(0) == ["+a/0"])
        #expect(test.acknowledged("a", 0) == ["gap a", "2 live"])
        #expect(test.acknowledged("a", 0) == [])
    }

    @Test func oneOfTwoIsLost() {
        var test = TestTable(links: 2)
        _ = test.subscribe()
        _ = (0..<2).map { test.acknowledged("a", $0) }
        test.down(0)
        #expect(test.up(0) == ["+a/0"])
        #expect(test.acknowledged("a", 0) == ["gap a"])
    }

    @Test func lostAgainBeforeItWasLive() {
        var test = TestTable.live()
        for _ in 0..<3 {
            test.down()
            #expect(test.up() == ["+a/0"])
        }
        // Those of lost connections never come, so the first one counts.
        #expect(test.acknowledged() == ["gap a"])
    }

    /// What was unsubscribed before the connection was lost does not come back.
    @Test func aChannelThatWentMeanwhile() {
        var test = TestTable.live()
        _ = test.unsubscribe(at: 0)
        test.down()
        #expect(test.expire(at: 100) == [])
        #expect(test.up() == [])
        #expect(test.table.count == 0)
    }

    @Test func theOutstandingOnesAreForgottenWithTheConnection() {
        var test = TestTable(linger: 0)
        _ = test.subscribe()
        _ = test.unsubscribe()
        _ = test.subscribe()
        test.down()
        #expect(test.up() == ["+a/0"])
        #expect(test.acknowledged() == ["gap a", "2 live"])
    }
}

@Suite struct ChannelAnswerTests {
    @Test func subscribersWaitForATime() {
        var test = TestTable()
        _ = test.subscribe(at: 1)
        #expect(test.subscribe(shard: 1, at: 3) == [])
        #expect(test.expire(at: 5.999999) == [])
        #expect(test.expire(at: 6) == ["1 timeout"])
        #expect(test.expire(at: 7) == [])
        // The channel stays asked for, since its subscribers have not left.
        #expect(test.acknowledged() == ["gap a", "2 live"])
        #expect(test.expire(at: 8) == [])
        #expect(test.subscribe(at: 9) == ["3 live"])
    }

    @Test func withoutAConnectionTheyWaitAsLong() {
        var test = TestTable(up: [])
        #expect(test.subscribe(at: 1) == [])
        #expect(test.subscribe("b", at: 1) == [])
        #expect(test.expire(at: 6) == ["1 timeout", "2 timeout"])
        #expect(test.up() == ["+a/0", "+b/0"])
    }

    @Test func whoLeftStillGetsAnAnswer() {
        var test = TestTable()
        _ = test.subscribe()
        #expect(test.unsubscribe() == [])
        #expect(!test.table.isWanted("a", shard: 0))
        #expect(test.acknowledged() == ["gap a", "1 live"])
    }

    @Test func aRefusalIsForAllWhoWait() {
        var test = TestTable(links: 2)
        _ = test.subscribe()
        _ = test.subscribe(shard: 1)
        #expect(test.acknowledged("a", 0) == [])
        #expect(test.refused("a", 1) == ["-a/0", "lost a", "1 refused", "2 refused"])
        #expect(!test.table.isWanted("a", shard: 0))
        #expect(test.table.count == 0)
        #expect(test.unsubscribe() == [])
        #expect(test.expire(at: 1000) == [])
        // The next one may be luckier.
        #expect(test.subscribe() == ["+a/0", "+a/1"])
        #expect(test.acknowledged("a", 0) == [])
        #expect(test.acknowledged("a", 1) == ["gap a", "3 live"])
    }

    @Test func aRefusalOnBothConnections() {
        var test = TestTable(links: 2)
        _ = test.subscribe()
        #expect(test.refused("a", 0) == ["-a/1", "lost a", "1 refused"])
        #expect(test.refused("a", 1) == [])
        #expect(test.subscribe() == ["+a/0", "+a/1"])
    }

    /// The refusal answers the SUBSCRIBE before, not the one that is still on its way.
    @Test func aRefusalFromBeforeDoesNotCount() {
        var test = TestTable(linger: 0)
        #expect(test.subscribe() == ["+a/0"])
        #expect(test.unsubscribe() == ["-a/0", "1 timeout"])
        #expect(test.subscribe() == ["+a/0"])
        #expect(test.refused() == [])
        #expect(test.acknowledged() == ["gap a", "2 live"])
    }

    /// Its rights may have been changed while we were away.
    @Test func aRefusalOfWhatWasLiveIsTold() {
        var test = TestTable.live()
        test.down()
        #expect(test.up() == ["+a/0"])
        #expect(test.refused() == ["lost a"])
        #expect(test.table.count == 0)
    }

    @Test func othersAreNotTouched() {
        var test = TestTable()
        _ = test.subscribe("a")
        _ = test.subscribe("b")
        #expect(test.refused("a") == ["lost a", "1 refused"])
        #expect(test.acknowledged("b") == ["gap b", "2 live"])
    }

    @Test func whatNobodyAskedFor() {
        var test = TestTable()
        #expect(test.acknowledged("x") == [])
        #expect(test.refused("x") == [])
        #expect(test.unsubscribe("x") == [])
        #expect(test.table.count == 0)
    }
}

@Suite struct ChannelTableBoundTests {
    /// Entries go with time, however often somebody came and left.
    @Test func nothingStays() {
        var test = TestTable.live()
        for number in 0..<1000 {
            _ = test.unsubscribe(at: Double(number))
            _ = test.subscribe(at: Double(number))
            _ = test.expire(at: Double(number))
            #expect(test.table.deadlineCount <= 2)
        }
        _ = test.expire(at: 2000)
        #expect(test.table.deadlineCount == 0)
        #expect(test.table.count == 1)
    }

    /// One client that comes and leaves all the time.
    @Test func lingeringIsBounded() {
        var test = TestTable.live()
        for _ in 0..<3000 {
            _ = test.unsubscribe(at: 1)
            _ = test.subscribe(at: 1)
        }
        #expect(test.table.deadlineCount <= 2)
    }

    /// The same while Redis is away. Each one is told in the end.
    @Test func waitingIsBounded() {
        var test = TestTable(up: [])
        for _ in 0..<3000 {
            _ = test.subscribe(at: 1)
            _ = test.unsubscribe(at: 1)
        }
        #expect(test.table.deadlineCount <= 2)
        #expect(test.expire(at: 6).count == 3000)
        #expect(test.table.deadlineCount <= 1)
    }
}
