import HTTPTypes
import HoldfastBroker
import HoldfastProtocol
import Hummingbird
import NIOCore

extension Gateway {
    func addPublishRoutes<Context: RequestContext>(to api: RouterGroup<Context>) {
        api.post("publish") { request, _ in
            let object = try self.object(try await self.body(of: request))
            let receipt = try await self.publish(object)
            return Response.json { $0.receipt(receipt) }
        }
        api.post("batch") { request, _ in
            let limit = self.configuration.limits.batch
            let items = try self.elements(try await self.body(of: request), limit: limit)
            var writer = JSONWriter()
            var answers: [ByteBuffer] = []
            for item in items {
                do {
                    let receipt = try await self.publish(try self.object(item.raw))
                    answers.append(JSONWriter.object { $0.receipt(receipt) })
                } catch let error as APIError {
                    answers.append(error.body)
                }
            }
            writer.array { json in
                for answer in answers { json.element(raw: answer) }
            }
            return Response.json(writer.buffer)
        }
        api.get("history") { request, _ in
            let name = try self.subscription(request.uri.queryParameters["subscription"].map(String.init))
            guard let settings = self.history(of: name) else {
                throw APIError(.notFound, "Invalid service.", code: "unknown_service")
            }
            guard settings.isKept else {
                throw APIError(.notFound, "No history is kept for service \(name.service).", code: "no_history")
            }
            let since = try self.number(request, "since", in: 0...UInt64.max)
            let limit = try self.number(request, "limit", in: 1...1000) ?? 100
            let page = try await self.broker.history(name.text, since: since, limit: Int(limit))
            return Response.json { $0.page(page, of: name.text) }
        }
    }

    private func body(of request: Request) async throws -> ByteBuffer {
        // What curl sends unless told otherwise is taken for JSON too.
        let type = request.headers[.contentType]?.prefix { $0 != ";" && $0 != " " }.lowercased() ?? ""
        guard ["", "application/json", "application/x-www-form-urlencoded"].contains(type) else {
            throw APIError(
                .unsupportedMediaType, "The body must be application/json, but is \(type).",
                code: "unsupported_media_type"
            )
        }
        let limit = self.configuration.limits.requestBytes
        let tooLarge = { (actual: String) in
            APIError(
                .contentTooLarge, "The body has \(actual) bytes, the limit is \(limit) (limits.request_bytes).",
                code: "limit_exceeded"
            )
        }
        // Said before the body is sent, where the client tells its length.
        if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > limit {
            throw tooLarge("\(length)")
        }
        do {
            return try await request.body.collect(upTo: limit)
        } catch is NIOTooManyBytesError {
            throw tooLarge("more than \(limit)")
        }
    }

    private func object(_ text: ByteBuffer) throws -> JSONObject {
        do throws(JSONError) {
            return try JSONObject(parsing: text, limits: self.configuration.limits.json)
        } catch {
            throw APIError(.badRequest, "The body must be a JSON object: \(error).", code: "bad_json")
        }
    }

    private func elements(_ text: ByteBuffer, limit: Int) throws -> [JSONValue] {
        do throws(JSONError) {
            // The array around the publications is one level more.
            var limits = self.configuration.limits.json
            limits.depth += 1
            let value = try JSONValue(parsing: text, limits: limits)
            guard let elements = try value.elements(limit: limit, limits: limits) else {
                throw JSONError(.unexpectedByte(value.raw.getInteger(at: value.raw.readerIndex) ?? 0), at: 0)
            }
            return elements
        } catch {
            if case .tooManyMembers = error.reason {
                throw APIError(
                    .contentTooLarge, "The batch has more than \(limit) publications (limits.batch).",
                    code: "limit_exceeded"
                )
            }
            throw APIError(.badRequest, "The body must be a JSON array of publications: \(error).", code: "bad_json")
        }
    }

    private func subscription(_ text: String?) throws -> SubscriptionName {
        guard let text else { throw APIError.badRequest("subscription is missing.") }
        do throws(ProtocolError) {
            return try SubscriptionName(text, limit: self.configuration.limits.nameBytes)
        } catch {
            throw APIError(.badRequest, error.text, code: error.code, exceeded: error.exceeded)
        }
    }

    private func number(_ request: Request, _ name: String, in range: ClosedRange<UInt64>) throws -> UInt64? {
        guard let text = request.uri.queryParameters[name[...]] else { return nil }
        guard let number = UInt64(text), range.contains(number) else {
            throw APIError.badRequest(
                "\(name) must be a whole number from \(range.lowerBound) to \(range.upperBound), but is \"\(text)\".")
        }
        return number
    }

    private func publish(_ object: JSONObject) async throws -> PublishReceipt {
        let message: PublishedMessage
        do throws(PublishedMessage.Problem) {
            message = try PublishedMessage(object)
        } catch {
            switch error {
            case .noData: throw APIError.badRequest("data is missing.")
            case .noSubscription, .notJSON:
                throw APIError(
                    .badRequest, "subscription must be a string, such as \"calls.call_1\".", code: "bad_subscription")
            }
        }
        var draft = PublicationDraft(
            subscription: message.subscription, data: message.data.raw, publishedAt: message.publishedAt
        )
        if let key = object["idempotency_key"], key.kind != .null {
            guard let text = key.string, !text.isEmpty, text.utf8.count <= 256 else {
                throw APIError.badRequest("idempotency_key must be a string of 1 to 256 bytes.")
            }
            draft.idempotencyKey = text
        }
        // Options and filter fields: who gets it and when (socketshark.md §9).
        let known: Set = ["subscription", "data", "published_at", "idempotency_key"]
        draft.members = object.members.filter { !known.contains($0.name) }
        do {
            return try await self.publish(draft)
        } catch let error as PublishError {
            throw APIError(error)
        }
    }
}

extension JSONWriter {
    fileprivate mutating func receipt(_ receipt: PublishReceipt) {
        self.member("status", "ok")
        if let position = receipt.position { self.member("position", position) }
        self.member("id", receipt.id)
    }

    fileprivate mutating func page(_ page: HistoryPage, of subscription: String) {
        self.member("status", "ok")
        self.member("subscription", subscription)
        self.member("position", page.position)
        self.member(
            "publications",
            array: { json in
                for publication in page.publications {
                    json.element(object: { json in
                        if let position = publication.position { json.member("offset", position.offset) }
                        json.member("data", raw: publication.data)
                        json.member("id", publication.id)
                        if let publishedAt = publication.publishedAt { json.member("published_at", publishedAt) }
                        json.member("received_at", publication.receivedAt)
                    })
                }
            })
        self.member("more", page.hasMore)
    }
}
