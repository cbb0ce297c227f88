import NIOCore
import Testing

@testable import HoldfastFaults

@Suite("Pipe: what becomes of the bytes and the end of one direction")
struct PipeTests {
    private let one = ByteBuffer(string: "one")
    private let two = ByteBuffer(string: "two!")

    /// Both sockets there, nothing wrong.
    private func makeWhole() -> Pipe {
        let pipe = Pipe(line: .whole, farIsOpen: true)
        #expect(pipe.mayRead(farIsWritable: true))
        #expect(!pipe.isDead)
        return pipe
    }

    private func makeDead() -> Pipe {
        var pipe = self.makeWhole()
        #expect(pipe.lineChanged(to: .swallows) == .init())
        #expect(pipe.received(self.one) == .swallow(bytes: 3))
        #expect(pipe.isDead)
        return pipe
    }

    @Test func passesWhileWhole() {
        var pipe = self.makeWhole()
        #expect(pipe.received(self.one) == .pass(self.one))
        #expect(pipe.ended(.finish) == .pass(.finish))
        #expect(pipe.ended(.reset) == .pass(.reset))
    }

    @Test func readsOnlyWhatTheFarSocketTakes() {
        let pipe = self.makeWhole()
        #expect(!pipe.mayRead(farIsWritable: false))
    }

    @Test func holdsUntilTheFarSocketIsThere() {
        var pipe = Pipe(line: .whole, farIsOpen: false)
        #expect(!pipe.mayRead(farIsWritable: true))
        #expect(pipe.received(self.one) == .hold)
        #expect(pipe.received(self.two) == .hold)
        #expect(pipe.ended(.finish) == .hold)
        #expect(pipe.farOpened() == .init(pass: [self.one, self.two], end: .finish))
        #expect(pipe.farOpened() == .init())
    }

    @Test func swallowsForEverAfterTheFirstByteLost() {
        var pipe = self.makeDead()
        #expect(pipe.lineChanged(to: .whole) == .init())
        #expect(pipe.received(self.two) == .swallow(bytes: 4))
        #expect(pipe.ended(.finish) == .swallow)
        #expect(pipe.mayRead(farIsWritable: false), "to throw away")
    }

    @Test func survivesACutInWhichNothingWasSent() {
        var pipe = self.makeWhole()
        #expect(pipe.lineChanged(to: .swallows) == .init())
        #expect(pipe.lineChanged(to: .whole) == .init())
        #expect(pipe.received(self.one) == .pass(self.one))
    }

    @Test(arguments: [StreamEnd.finish, .reset]) func anEndIsSwallowedForGood(end: StreamEnd) {
        var pipe = self.makeWhole()
        #expect(pipe.lineChanged(to: .swallows) == .init())
        #expect(pipe.ended(end) == .swallow)
        #expect(pipe.lineChanged(to: .whole) == .init())
        #expect(pipe.isDead)
    }

    @Test(arguments: [StreamEnd.finish, .reset]) func whatIsHeldComesInOrderBeforeItsEnd(end: StreamEnd) {
        var pipe = self.makeWhole()
        #expect(pipe.lineChanged(to: .holds) == .init())
        #expect(!pipe.mayRead(farIsWritable: true))
        #expect(pipe.received(self.one) == .hold)
        #expect(pipe.received(self.two) == .hold)
        #expect(pipe.ended(end) == .hold)
        #expect(pipe.lineChanged(to: .whole) == .init(pass: [self.one, self.two], end: end))
        #expect(pipe.lineChanged(to: .whole) == .init())
    }

    @Test func aResetAfterAHeldFinishTakesItsPlace() {
        var pipe = self.makeWhole()
        _ = pipe.lineChanged(to: .holds)
        #expect(pipe.ended(.finish) == .hold)
        #expect(pipe.ended(.reset) == .hold)
        #expect(pipe.lineChanged(to: .whole) == .init(end: .reset))
    }

    @Test func aResetAfterAPassedFinishIsHeldToo() {
        var pipe = self.makeWhole()
        #expect(pipe.ended(.finish) == .pass(.finish))
        _ = pipe.lineChanged(to: .holds)
        #expect(pipe.ended(.reset) == .hold)
        #expect(pipe.lineChanged(to: .whole) == .init(end: .reset))
    }

    @Test func whatWasHeldIsLostWhenTheLineBeginsToSwallow() {
        var pipe = self.makeWhole()
        _ = pipe.lineChanged(to: .holds)
        #expect(pipe.received(self.one) == .hold)
        #expect(pipe.ended(.finish) == .hold)
        #expect(pipe.lineChanged(to: .swallows) == .init(swallowedBytes: 3, swallowedEnds: 1))
        #expect(pipe.isDead)
        #expect(pipe.lineChanged(to: .whole) == .init())
    }

    @Test func nothingIsForAFarSocketThatHasGone() {
        var pipe = self.makeWhole()
        _ = pipe.lineChanged(to: .holds)
        #expect(pipe.received(self.one) == .hold)
        #expect(pipe.farGone() == .init(swallowedBytes: 3))
        #expect(pipe.received(self.two) == .swallow(bytes: 4))
        #expect(pipe.lineChanged(to: .whole) == .init())
    }
}
