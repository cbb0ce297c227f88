import NIOCore
import Testing

@testable import HoldfastProtocol

/// The texts to the letter: SocketShark's clients may look at them.
@Suite struct ServerEventTests {
    private func hello(received: UInt64?) throws -> String {
        String(
            buffer: ServerEvent.hello(
                ServerEvent.Hello(
                    session: try #require(SessionName("00000000000000ff.0123456789abcdeffedcba9876543210")),
                    received: received,
                    heartbeat: .init(), spread: 2.5, sessionTTL: 60, node: "n\"1"
                )))
    }

    @Test func hello() throws {
        let rest =
            #""heartbeat":{"interval":4,"hidden_interval":25,"timeout":5},"spread":2.5,"session_ttl":60,"node":"n\"1"}"#
        let begin = #"{"event":"hello","status":"ok","session":"00000000000000ff.0123456789abcdeffedcba9876543210","#
        #expect(try self.hello(received: nil) == begin + #""resumed":false,"# + rest)
        #expect(try self.hello(received: 0) == begin + #""resumed":true,"received":0,"# + rest)
        #expect(try self.hello(received: 5) == begin + #""resumed":true,"received":5,"# + rest)
    }

    @Test func small() {
        #expect(String(buffer: ServerEvent.probe) == #"{"event":"probe","status":"ok"}"#)
        #expect(String(buffer: ServerEvent.pong(data: nil, received: nil)) == #"{"event":"pong","data":null}"#)
        #expect(
            String(buffer: ServerEvent.pong(data: "a\n", received: 5)) == #"{"event":"pong","data":"a\n","received":5}"#
        )
        #expect(String(buffer: ServerEvent.ack(received: .max)) == #"{"event":"ack","received":18446744073709551615}"#)
        #expect(
            String(buffer: ServerEvent.goaway(reason: "drain", retryAfter: 0...20.5))
                == #"{"event":"goaway","reason":"drain","retry_after":[0,20.5]}"#
        )
    }

    @Test func gaps() {
        #expect(
            String(buffer: ServerEvent.gap(subscription: "a.b", after: 41, next: 97))
                == #"{"event":"gap","subscription":"a.b","after":41,"next":97}"#
        )
        #expect(
            String(buffer: ServerEvent.gap(subscription: "a.b", after: nil, next: nil))
                == #"{"event":"gap","subscription":"a.b","after":null,"next":null}"#
        )
    }

    private func fullReply(_ error: ProtocolError?) throws -> ServerEvent.Reply {
        func value(_ text: String) throws -> JSONValue { try JSONValue(parsing: ByteBuffer(string: text)) }
        var reply = ServerEvent.Reply(event: "subscribe", error: error)
        reply.extras = [.init(name: "x", value: try value("[1]"))]
        reply.data = try value("{\"d\": 1.0}")
        reply.subscription = try value("\"a.\\u0062\"")
        reply.id = try value("7")
        reply.recovered = true
        reply.position = Position(epoch: "k", offset: 3)
        return reply
    }

    @Test func replies() throws {
        let plain = #"{"event":"subscribe","status":"ok","x":[1],"data":{"d": 1.0},"subscription":"a.\u0062""#
        #expect(String(buffer: ServerEvent.reply(try self.fullReply(nil), dialect: .plain)) == plain + "}")
        #expect(
            String(buffer: ServerEvent.reply(try self.fullReply(nil), dialect: .native))
                == plain + #","id":7,"recovered":true,"position":{"epoch":"k","offset":3}}"#
        )
        #expect(
            String(buffer: ServerEvent.reply(.init(event: "auth"), dialect: .native))
                == #"{"event":"auth","status":"ok"}"#)
    }

    @Test func errorReplies() {
        let bad = ServerEvent.Reply(event: nil, error: .badEvent)
        let text = #"{"status":"error","error":"Messages must be JSON and contain an event field.""#
        #expect(String(buffer: ServerEvent.reply(bad, dialect: .plain)) == text + "}")
        #expect(String(buffer: ServerEvent.reply(bad, dialect: .native)) == text + #","code":"bad_event"}"#)
        let limit = ServerEvent.Reply(event: "subscribe", error: .limitExceeded("N", limit: 3, actual: 4))
        #expect(
            String(buffer: ServerEvent.reply(limit, dialect: .plain))
                == #"{"event":"subscribe","status":"error","error":"N is over the limit of 3: 4."}"#
        )
        #expect(
            String(buffer: ServerEvent.reply(limit, dialect: .native))
                == #"{"event":"subscribe","status":"error","error":"N is over the limit of 3: 4.","code":"limit_exceeded","limit":3,"actual":4}"#
        )
    }

    @Test(arguments: [
        (ProtocolError.badEvent, "Messages must be JSON and contain an event field."),
        (.unknownEvent, "Event not found."),
        (.badSubscription, "Invalid subscription format."), (.unknownService, "Invalid service."),
        (.alreadySubscribed, "Already subscribed."),
        (.notSubscribed, "Subscription does not exist."), (.authenticationRequired, "Authentication required."),
        (.unsupportedMethod, "Authentication method unsupported."),
    ])
    func socketSharksTexts(_ error: ProtocolError, _ text: String) {
        #expect(error.text == text)
    }
}
