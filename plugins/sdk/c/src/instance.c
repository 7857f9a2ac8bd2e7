//! One configured plugin: its state, its memory, and what happens around its calls.

#include "json.h"

uint32_t wm_slots_now;

wm_error wm_instance_configure(wm_instance *instance, const wm_plugin *plugin, wm_string config) {
    memset(instance, 0, sizeof *instance);
    instance->plugin = plugin;
    wm_memory = &instance->life;
    wm_slots_now = 0;
    wm_setup setup = {0};
    wm_string text = wm_copy(config);
    if (!wm_json_value(text, WM_JSON_DEPTH, &setup.config)) {
        bool empty = strspn(text.data, " \t\r\n") == text.len;
        if (!empty) {
            return "config: not JSON; it has to be an object";
        }
        setup.config = wm_str("{}");
    }
    if (setup.config.data[0] != '{') {
        return "config: not an object";
    }
    instance->state = wm_alloc(plugin->state_size == 0 ? 1 : plugin->state_size);
    if (plugin->process == NULL && plugin->record == NULL) {
        return "the plugin has neither .process nor .record";
    }
    instance->begun = true;
    wm_error error = plugin->configure == NULL ? WM_OK : plugin->configure(instance->state, &setup);
    if (error != WM_OK && setup.wrong == WM_OK) {
        return error;
    }
    error = wm_setup_check(&setup);
    instance->slots = wm_slots_now;
    return error;
}

wm_error wm_instance_process(wm_instance *instance, wm_handle handle) {
    wm_memory = &instance->call;
    wm_slots_now = instance->slots;
    wm_row_now = -1;
    wm_chunk *rows = wm_chunk_of(handle, false);
    wm_error error = instance->plugin->process != NULL ? instance->plugin->process(instance->state, rows)
                                                       : wm_each_row(rows, instance->plugin->record, instance->state);
    wm_chunks_end(error == WM_OK);
    wm_row_now = -1;
    return error;
}

void wm_instance_free(wm_instance *instance) {
    if (instance->begun && instance->plugin->destroy != NULL) {
        instance->plugin->destroy(instance->state);
    }
    instance->begun = false;
    wm_arena_free(&instance->life);
    wm_arena_free(&instance->call);
}
