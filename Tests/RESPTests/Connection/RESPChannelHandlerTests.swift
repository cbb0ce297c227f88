import NIOCore
import NIOEmbedded
import Testing

@testable import RESP

/// Without a network: what is written when, and what becomes of bytes cut anywhere.
struct RESPChannelHandlerTests {
    private final class Seen {
        var greeted: Result<Bool, RESPError>?
        var events: [RESPConnection.Event] = []
    }

    private let seen = Seen()

    private func make(
        _ configuration: RESPConnectionConfiguration = RESPConnectionConfiguration()
    ) throws -> (EmbeddedChannel, RESPChannelHandler) {
        let channel = EmbeddedChannel()
        let handler = RESPChannelHandler(
            configuration: configuration,
            eventLoop: channel.eventLoop,
            onEvent: { [seen] in seen.events.append($0) },
            greeted: { [seen] in seen.greeted = $0 }
        )
        try channel.connect(to: SocketAddress(unixDomainSocketPath: "/test")).wait()
        try channel.pipeline.syncOperations.addHandler(handler)
        channel.embeddedEventLoop.run()
        #expect(try channel.readOutbound(as: ByteBuffer.self) == buffer("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"))
        #expect(self.seen.greeted == nil)
        return (channel, handler)
    }

    private func makeOpen(
        _ configuration: RESPConnectionConfiguration = RESPConnectionConfiguration()
    ) throws -> (EmbeddedChannel, RESPChannelHandler) {
        let (channel, handler) = try self.make(configuration)
        try channel.writeInbound(buffer("%1\r\n$5\r\nproto\r\n:3\r\n"))
        #expect(self.seen.greeted == .success(true))
        return (channel, handler)
    }

    private func execute(
        _ handler: RESPChannelHandler,
        _ channel: EmbeddedChannel,
        _ command: String
    ) -> EventLoopFuture<RESPValue> {
        let promise = channel.eventLoop.makePromise(of: RESPValue.self)
        handler.execute(command, [], promise)
        return promise.futureResult
    }

    @Test func oneWriteForOneTurn() throws {
        let (channel, handler) = try self.makeOpen()
        let futures = ["A", "B", "C"].map { self.execute(handler, channel, $0) }
        #expect(try channel.readOutbound(as: ByteBuffer.self) == nil)
        channel.embeddedEventLoop.run()
        #expect(
            try channel.readOutbound(as: ByteBuffer.self)
                == buffer("*1\r\n$1\r\nA\r\n*1\r\n$1\r\nB\r\n*1\r\n$1\r\nC\r\n"))
        #expect(try channel.readOutbound(as: ByteBuffer.self) == nil)
        try channel.writeInbound(buffer(":1\r\n-ERR no\r\n:3\r\n"))
        #expect(try futures[0].wait() == .number(1))
        #expect(throws: RESPError(.commandError, "ERR no")) { try futures[1].wait() }
        #expect(try futures[2].wait() == .number(3))
        _ = try channel.finish()
    }

    @Test func byteByByte() throws {
        let (channel, handler) = try self.makeOpen()
        let promise = channel.eventLoop.makePromise(of: Void.self)
        handler.subscribe(["a"], promise: promise)
        let answer = self.execute(handler, channel, "X")
        let message = ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"
        for byte in (">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n" + message + "*1\r\n$1\r\nx\r\n" + message).utf8 {
            try channel.writeInbound(ByteBuffer(bytes: [byte]))
        }
        try promise.futureResult.wait()
        #expect(try answer.wait() == .array([.bulkString(buffer("x"))]))
        let event = RESPConnection.Event.message(channel: buffer("a"), payload: buffer("hi"))
        #expect(self.seen.events == [.subscribed(channel: buffer("a")), event, event])
        _ = try channel.finish()
    }

    /// The end comes once, everything that waits fails, and nothing is sent any more.
    @Test func theEnd() throws {
        let (channel, handler) = try self.makeOpen()
        let waiting = self.execute(handler, channel, "A")
        handler.close(RESPError(.connectionClosed, "enough"))
        handler.close(RESPError(.connectionClosed, "again"))
        channel.embeddedEventLoop.run()
        #expect(throws: RESPError(.connectionClosed, "enough")) { try waiting.wait() }
        #expect(self.seen.events == [.closed(RESPError(.connectionClosed, "enough"))])
        #expect(throws: RESPError(.notConnected, "the connection is closed: enough")) {
            try self.execute(handler, channel, "B").wait()
        }
        #expect(!channel.isActive)
        #expect(try channel.readOutbound(as: ByteBuffer.self) == nil)
        _ = try? channel.finish()
    }

    @Test func nothingBeforeTheGreeting() throws {
        let (channel, handler) = try self.make()
        #expect(throws: RESPError(.notConnected, "the connection is not open")) {
            try self.execute(handler, channel, "A").wait()
        }
        _ = try? channel.finish()
        #expect(self.seen.greeted == .failure(RESPError(.connectionClosed, "the server closed the connection")))
        #expect(self.seen.events.isEmpty)
    }

    /// In the loop's own time.
    @Test func commandTimeout() throws {
        let (channel, handler) = try self.makeOpen(.init(commandTimeout: .seconds(60)))
        let first = self.execute(handler, channel, "A")
        channel.embeddedEventLoop.run()
        try channel.writeInbound(buffer(":1\r\n"))
        #expect(try first.wait() == .number(1))
        // The timer of a command that was answered harms nobody.
        channel.embeddedEventLoop.advanceTime(by: .seconds(61))
        #expect(self.seen.events.isEmpty && channel.isActive)
        handler.close(RESPError(.connectionClosed, "enough"))
        _ = try? channel.finish()
    }
}
